import type { MembershipService, Rotation } from '../../protocols/membership/index.ts'
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
 * drops the connections of those who did not confirm. Two changes at the same time end with the same winner
 * everywhere.
 */
export class MeshRotation {
  #membership: Membership
  readonly #components: RotationComponents
  #adoptedAtMs: number[] = []
  #switching: Promise<RotationReport> | undefined

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
    return await this.#adopt({
      epoch: this.#membership.epoch + 1,
      secret: Buffer.from(newSecret()).toString('hex'),
      banned: [...banned]
    })
  }

  /** Takes a peer off this node's ban list; it needs a ticket to come back. */
  async unban(peerId: string): Promise<void> {
    const banned = this.#membership.banned.filter(id => id !== peerId)
    await this.#save({ ...this.#membership, banned })
  }

  /** A member announces a new secret. True when this node has it. */
  async onRotation(peerId: string, rotation: Rotation): Promise<boolean> {
    if (this.isBanned(peerId)) return false
    if (this.#isOwn(rotation)) return true
    const { epoch, secret } = this.#membership
    const later =
      rotation.epoch > epoch ||
      (rotation.epoch === epoch && rotation.secret > Buffer.from(secret).toString('hex'))
    if (!later || rotation.epoch > epoch + MAX_EPOCH_STEP) return false
    const now = performance.now()
    this.#adoptedAtMs = this.#adoptedAtMs.filter(atMs => now - atMs < 60_000)
    if (this.#adoptedAtMs.length >= MAX_ADOPTED_PER_MINUTE) return false
    this.#adoptedAtMs.push(now)
    this.#components.onNotice('the mesh has a new secret; devices that are off now need a new ticket')
    // The answer must not wait until this node's own peers have answered.
    await this.#save({ ...rotation, secret: new Uint8Array(Buffer.from(rotation.secret, 'hex')) })
    void this.#spread(rotation)
    return true
  }

  async #adopt(rotation: Rotation): Promise<RotationReport> {
    await this.#save({ ...rotation, secret: new Uint8Array(Buffer.from(rotation.secret, 'hex')) })
    return await this.#spread(rotation)
  }

  #spread(rotation: Rotation): Promise<RotationReport> {
    const before = this.#switching ?? Promise.resolve()
    this.#switching = before.then(() => this.#tellAndSwitch(rotation))
    return this.#switching
  }

  async #tellAndSwitch(rotation: Rotation): Promise<RotationReport> {
    const { host, membership } = this.#components
    for (const peerId of rotation.banned) host.disconnect(peerId, new Error('banned'))
    const peers = host.connected.filter(peerId => !rotation.banned.includes(peerId))
    const answers = await Promise.all(
      peers.map(async peerId => {
        const late = new Promise<false>(resolve => setTimeout(resolve, TELL_TIMEOUT_MS, false).unref())
        return {
          peerId,
          adopted: await Promise.race([membership.tell(peerId, rotation).catch(() => false), late])
        }
      })
    )
    const report: RotationReport = { reached: [], missed: [] }
    for (const { peerId, adopted } of answers) report[adopted ? 'reached' : 'missed'].push(peerId)
    // A later secret that arrived meanwhile is switched to by its own turn, which also finds who has not got that.
    if (!this.#isOwn(rotation)) return report
    await this.#components.onKeys(meshKeys(this.#membership.secret))
    for (const peerId of report.missed) host.disconnect(peerId, new Error('it did not get the new secret'))
    return report
  }

  #isOwn({ epoch, secret }: Rotation): boolean {
    return epoch === this.#membership.epoch && secret === Buffer.from(this.#membership.secret).toString('hex')
  }

  async #save(membership: Membership): Promise<void> {
    this.#membership = membership
    await saveMembership(this.#components.home, membership)
  }
}
