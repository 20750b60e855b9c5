import { logger } from '../../models/log.ts'
import { MAX_BANNED } from '../../protocols/membership/constants.ts'
import type { MembershipService, Rotation, RotationReply } from '../../protocols/membership/index.ts'
import { isPeerId } from '../../protocols/peer-id.ts'
import { RequestError } from '../errors.ts'
import { OvertakenError } from './errors.ts'
import { type Membership, type MeshKeys, meshKeys, newSecret, saveMembership } from './membership.ts'

const log = logger('edgeshard:mesh')

/** Who got a new secret and who has to be given a ticket. Peer ids. */
export interface RotationReport {
  reached: string[]
  missed: string[]
}

/** What a rotation acts on. */
export interface RotationComponents {
  home: string
  host: {
    readonly peerId: string
    readonly connected: string[]
    disconnect(peerId: string, reason: Error): void
  }
  membership: Pick<MembershipService, 'tell'>
  nameOf(peerId: string): string
  onNotice(message: string): void
  /** Handshakes and announcements use these keys from now on. */
  onKeys(keys: MeshKeys): Promise<void>
}

/** Members who pass it on need this long at most before everybody has switched. */
const TELL_TIMEOUT_MS = 5000
/** A secret so many changes ahead was not made by a mesh that this node knows. */
const MAX_EPOCH_STEP = 16
/** More changes than that are a member running wild: nobody looks at them. */
const MAX_CHANGES_PER_MINUTE = 6
/** Of the peers that a change bans; the list has them all. */
const MAX_NAMES_IN_NOTICE = 5

/**
 * Changes the mesh's secret and its ban list: whoever adopts a change saves it, tells the peers it is connected to, then
 * switches and drops the connections of those who did not confirm a new secret. Of two changes at the same time one wins
 * everywhere: whoever announces the other one gets the winner in return. So does who was away, or has just joined.
 */
export class MeshRotation {
  #membership: Membership
  readonly #components: RotationComponents
  #changedAtMs: number[] = []
  #switching: Promise<void> = Promise.resolve()
  #saving: Promise<void> = Promise.resolve()
  /** In hex: what handshakes need now. */
  #secretInUse: string
  /** Of the last secret that was switched to. */
  #report: RotationReport = { reached: [], missed: [] }

  constructor(membership: Membership, components: RotationComponents) {
    this.#membership = membership
    this.#components = components
    this.#secretInUse = hex(membership.secret)
  }

  get membership(): Membership {
    return this.#membership
  }

  isBanned(peerId: string): boolean {
    return this.#membership.banned.includes(peerId)
  }

  /**
   * A new secret for everybody who is connected; with `ban` for everybody but that peer, from now on.
   *
   * @throws {RequestError} for a ban that the mesh cannot have or one change too many, {OvertakenError} when another won
   */
  async rotate({ ban }: { ban?: string | undefined } = {}): Promise<RotationReport> {
    const banned = new Set(this.#membership.banned)
    if (ban !== undefined) banned.add(this.#checked(ban))
    if (banned.size > MAX_BANNED) {
      throw new RequestError(
        `${MAX_BANNED} devices are banned, which is as many as may be: take one off the list with 'edgeshard mesh unban'`
      )
    }
    const before = this.#own.secret
    const report = await this.#change({ secret: hex(newSecret()), banned: [...banned] })
    if (this.#own.secret === before || (ban !== undefined && !this.isBanned(ban))) throw new OvertakenError()
    return report
  }

  /**
   * Takes a peer off the mesh's ban list. The secret stays: nobody is cut off, and that peer needs a ticket.
   *
   * @throws {RequestError} for one change too many, {OvertakenError} when another won
   */
  async unban(peerId: string): Promise<void> {
    if (!this.isBanned(peerId)) return
    const { secret, banned } = this.#own
    await this.#change({ secret, banned: banned.filter(id => id !== peerId) })
    if (this.isBanned(peerId)) throw new OvertakenError()
  }

  /**
   * A peer is connected: where one of the two was away, or has joined with a ticket, it hears now what the other one
   * knows. The smaller id speaks; before the first change both know all, and a change under way tells of itself.
   */
  greet(peerId: string): void {
    const own = this.#own
    if (this.#components.host.peerId > peerId || this.isBanned(peerId)) return
    if (own.epoch === 0 || own.secret !== this.#secretInUse) return
    this.#tell(peerId, own).catch(
      log.passOver('greeting a peer failed; a disk that takes nothing is found out by the next change', {
        peerId
      })
    )
  }

  async #change(change: Omit<Rotation, 'epoch'>): Promise<RotationReport> {
    // Who hears of it last counts it so much later than this node.
    if (!this.#counts(performance.now() + TELL_TIMEOUT_MS)) {
      throw new RequestError(
        `the mesh has changed ${MAX_CHANGES_PER_MINUTE} times within a minute, and its devices take no more: wait a minute`
      )
    }
    const { saved, spread } = this.#adopt({ ...change, epoch: this.#membership.epoch + 1 })
    await saved
    // Somebody else's change at the same time may have won: then it counts who got that.
    for (let last = spread; ; last = this.#switching) {
      await last
      if (last === this.#switching) return this.#report
    }
  }

  #checked(ban: string): string {
    if (!isPeerId(ban)) throw new RequestError(`'${ban.slice(0, 100)}' is no peer id`, 'ban')
    if (ban === this.#components.host.peerId) throw new RequestError('a device cannot ban itself', 'ban')
    return ban
  }

  /** A member announces a change; where this node has a later one, the member hears of that in return. */
  async onRotation(peerId: string, rotation: Rotation): Promise<RotationReply> {
    if (this.isBanned(peerId)) return { type: 'refused' }
    if (this.#isOwn(rotation)) return { type: 'adopted' }
    const own = this.#own
    if (rotation.epoch < own.epoch || (rotation.epoch === own.epoch && rank(rotation) < rank(own))) {
      return { type: 'later', rotation: own }
    }
    if (rotation.epoch > own.epoch + MAX_EPOCH_STEP) return { type: 'refused' }
    const { host, nameOf, onNotice } = this.#components
    if (!this.#counts(performance.now())) return { type: 'refused' }
    // Who bans everybody at once finds nobody to take part. Honest members do not tell those whom they ban.
    if (rotation.banned.includes(host.peerId)) {
      onNotice(
        `${nameOf(peerId)} bans this device from the mesh: who follows cuts it off until it joins with a new ticket`
      )
      return { type: 'refused' }
    }
    const changes = this.#changesBy(rotation)
    if (changes.length > 0) onNotice(`${nameOf(peerId)} ${changes.join(' and ')}`)
    // The answer must not wait until this node's own peers have answered.
    await this.#adopt(rotation).saved
    return { type: 'adopted' }
  }

  /** Counts one more change; false where this minute has had as many as may be. */
  #counts(atMs: number): boolean {
    const now = performance.now()
    this.#changedAtMs = this.#changedAtMs.filter(earlierMs => now - earlierMs < 60_000)
    if (this.#changedAtMs.length >= MAX_CHANGES_PER_MINUTE) return false
    this.#changedAtMs.push(atMs)
    return true
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
    const [reached, missed] = [true, false].map(is => peers.filter((_, at) => adopted[at] === is))
    this.#report = { reached: reached!, missed: missed! }
    if (rotation.secret === this.#secretInUse) return
    this.#secretInUse = rotation.secret
    await onKeys(meshKeys(this.#membership.secret))
    for (const peerId of missed!) host.disconnect(peerId, new Error('it did not get the new secret'))
  }

  async #tell(peerId: string, rotation: Rotation): Promise<boolean> {
    const refused: RotationReply = { type: 'refused' }
    const late = new Promise<RotationReply>(resolve => setTimeout(resolve, TELL_TIMEOUT_MS, refused).unref())
    const told = this.#components.membership.tell(peerId, rotation).catch(error => {
      log.passOver('a peer did not take a change of the mesh; it counts as missed', { peerId })(error)
      return refused
    })
    const reply = await Promise.race([told, late])
    if (reply.type === 'later') await this.onRotation(peerId, reply.rotation)
    return reply.type === 'adopted'
  }

  /** For people: who is let in no more or again, and what a new secret means. */
  #changesBy({ secret, banned }: Rotation): string[] {
    const { nameOf } = this.#components
    const own = this.#own
    const names = (ids: string[]) => {
      const more = ids.length > MAX_NAMES_IN_NOTICE ? ` and ${ids.length - MAX_NAMES_IN_NOTICE} more` : ''
      return ids.slice(0, MAX_NAMES_IN_NOTICE).map(nameOf).join(', ') + more
    }
    const added = banned.filter(id => !own.banned.includes(id))
    const removed = own.banned.filter(id => !banned.includes(id))
    return [
      ...(added.length > 0 ? [`banned ${names(added)}`] : []),
      ...(removed.length > 0 ? [`took ${names(removed)} off the ban list`] : []),
      ...(secret === own.secret
        ? []
        : ['changed the secret of the mesh: devices that are off now need a new ticket'])
    ]
  }

  get #own(): Rotation {
    const { epoch, secret, banned } = this.#membership
    return { epoch, secret: hex(secret), banned }
  }

  #isOwn(rotation: Rotation): boolean {
    return rotation.epoch === this.#membership.epoch && rank(rotation) === rank(this.#own)
  }

  /** One write after the other, each of what counts then: the last one on disk is the last one here. */
  async #save(membership: Membership): Promise<void> {
    this.#membership = membership
    const saved = this.#saving.then(() => saveMembership(this.#components.home, this.#membership))
    // Who saves hears of it; the next one saves its own.
    this.#saving = saved.catch(() => {})
    await saved
  }
}

/** Of two changes with one number the larger rank wins; those that leave the secret as it is differ in their lists. */
function rank({ secret, banned }: Rotation): string {
  return `${secret} ${banned.join(' ')}`
}

function hex(secret: Uint8Array): string {
  return Buffer.from(secret).toString('hex')
}
