import type { MembershipService, Rotation, RotationReply } from '../../protocols/membership/index.ts'
import { type Membership, type MeshKeys, meshKeys, newSecret, saveMembership } from './membership.ts'

/** Who got a new secret and who has to be given a ticket. Peer ids. */
export interface RotationReport {
  reached: string[]
  missed: string[]
}

/** What a rotation acts on. */
export interface RotationComponents {
  home: string
  host: {
    readonly connected: string[]
    disconnect(peerId: string, reason: Error): void
  }
  membership: Pick<MembershipService, 'tell'>
  onNotice(message: string): void
  /** Handshakes and announcements use these keys from now on. */
  onKeys(keys: MeshKeys): Promise<void>
}

/** Members who pass it on need this long at most before everybody has switched. */
const TELL_TIMEOUT_MS = 5000
/** A secret so many changes ahead was not made by a mesh that this node knows. */
const MAX_EPOCH_STEP = 16
/** Changes of others adopted in a minute; more is a member running wild. */
const MAX_ADOPTED_PER_MINUTE = 6

/**
 * Changes the mesh's secret: whoever adopts a new one saves it, tells the peers it is connected to, then switches and
 * drops the connections of those who did not confirm. Of two changes at the same time one wins everywhere: whoever
 * announces the other one gets the winner in return.
 */
export class MeshRotation {
  #membership: Membership
  readonly #components: RotationComponents
  #adoptedAtMs: number[] = []
  #switching: Promise<void> = Promise.resolve()
  #saving: Promise<void> = Promise.resolve()
  /** Of the last secret that was switched to. */
  #report: RotationReport = { reached: [], missed: [] }

  constructor(membership: Membership, components: RotationComponents) {
    this.#membership = membership
    this.#components = components
  }

  get membership(): Membership {
    return this.#membership
  }

  isBanned(peerId: string): boolean {
    return this.#membership.banned.includes(peerId)
  }

  /** A new secret for everybody who is connected; with `ban` for everybody but that peer, from now on. */
  async rotate({ ban }: { ban?: string | undefined } = {}): Promise<RotationReport> {
    const banned = new Set(this.#membership.banned)
    if (ban !== undefined) banned.add(ban)
    const { saved, spread } = this.#adopt({
      epoch: this.#membership.epoch + 1,
      secret: Buffer.from(newSecret()).toString('hex'),
      banned: [...banned]
    })
    await saved
    // Somebody else's change at the same time may have won: then it counts who got that.
    for (let last = spread; ; last = this.#switching) {
      await last
      if (last === this.#switching) return this.#report
    }
  }

  /** Takes a peer off this node's ban list; it needs a ticket to come back. */
  async unban(peerId: string): Promise<void> {
    const banned = this.#membership.banned.filter(id => id !== peerId)
    await this.#save({ ...this.#membership, banned })
  }

  /** A member announces a new secret; where this node has a later one, the member hears of that in return. */
  async onRotation(peerId: string, rotation: Rotation): Promise<RotationReply> {
    if (this.isBanned(peerId)) return { type: 'refused' }
    if (this.#isOwn(rotation)) return { type: 'adopted' }
    const { epoch, secret, banned } = this.#membership
    const own = { epoch, secret: Buffer.from(secret).toString('hex'), banned }
    if (rotation.epoch < epoch || (rotation.epoch === epoch && rotation.secret < own.secret)) {
      return { type: 'later', rotation: own }
    }
    if (rotation.epoch > epoch + MAX_EPOCH_STEP) return { type: 'refused' }
    const now = performance.now()
    this.#adoptedAtMs = this.#adoptedAtMs.filter(atMs => now - atMs < 60_000)
    if (this.#adoptedAtMs.length >= MAX_ADOPTED_PER_MINUTE) return { type: 'refused' }
    this.#adoptedAtMs.push(now)
    this.#components.onNotice('the mesh has a new secret; devices that are off now need a new ticket')
    // The answer must not wait until this node's own peers have answered.
    await this.#adopt(rotation).saved
    return { type: 'adopted' }
  }

  /** From now on this node has the secret; what it does with it waits until that is on disk. */
  #adopt(rotation: Rotation): { saved: Promise<void>; spread: Promise<void> } {
    const saved = this.#save({ ...rotation, secret: new Uint8Array(Buffer.from(rotation.secret, 'hex')) })
    this.#switching = this.#switching.then(() => saved.then(() => this.#tellAndSwitch(rotation)))
    // A disk that takes nothing is told to whoever waits for `saved`.
    this.#switching = this.#switching.catch(() => {})
    return { saved, spread: this.#switching }
  }

  /** Nothing but what a later secret needs is done for one that it has overtaken: that has a turn of its own. */
  async #tellAndSwitch(rotation: Rotation): Promise<void> {
    if (!this.#isOwn(rotation)) return
    const { host, onKeys } = this.#components
    for (const peerId of rotation.banned) host.disconnect(peerId, new Error('banned'))
    const peers = host.connected.filter(peerId => !rotation.banned.includes(peerId))
    const adopted = await Promise.all(peers.map(peerId => this.#tell(peerId, rotation)))
    if (!this.#isOwn(rotation)) return
    await onKeys(meshKeys(this.#membership.secret))
    const [reached, missed] = [true, false].map(is => peers.filter((_, at) => adopted[at] === is))
    this.#report = { reached: reached!, missed: missed! }
    for (const peerId of missed!) host.disconnect(peerId, new Error('it did not get the new secret'))
  }

  async #tell(peerId: string, rotation: Rotation): Promise<boolean> {
    const refused: RotationReply = { type: 'refused' }
    const late = new Promise<RotationReply>(resolve => setTimeout(resolve, TELL_TIMEOUT_MS, refused).unref())
    const told = this.#components.membership.tell(peerId, rotation).catch(() => refused)
    const reply = await Promise.race([told, late])
    if (reply.type === 'later') await this.onRotation(peerId, reply.rotation)
    return reply.type === 'adopted'
  }

  #isOwn({ epoch, secret }: Rotation): boolean {
    return epoch === this.#membership.epoch && secret === Buffer.from(this.#membership.secret).toString('hex')
  }

  /** One write after the other, each of what counts then: the last one on disk is the last one here. */
  async #save(membership: Membership): Promise<void> {
    this.#membership = membership
    const saved = this.#saving.then(() => saveMembership(this.#components.home, this.#membership))
    this.#saving = saved.catch(() => {})
    await saved
  }
}
