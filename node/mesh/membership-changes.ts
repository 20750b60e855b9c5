import { logger } from '../../models/log.ts'
import { MAX_BANNED } from '../../protocols/membership/constants.ts'
import type {
  MembershipChange,
  MembershipReply,
  MembershipService
} from '../../protocols/membership/index.ts'
import { isPeerId } from '../../protocols/peer-id.ts'
import { RequestError } from '../errors.ts'
import { OvertakenError } from './errors.ts'
import { type Membership, type MeshKeys, meshKeys, newSecret, saveMembership } from './membership.ts'

const log = logger('edgeshard:mesh')

/** Peer ids of the members that got a new secret, and of those that need a new ticket. */
export interface ChangeReport {
  reached: string[]
  missed: string[]
}

/** What a change acts on. */
export interface MembershipChangesComponents {
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

/** A member that passes a change on waits this long at most for its own peers before it switches. */
const TELL_TIMEOUT_MS = 5000
/** A secret so many changes ahead was not made by a mesh that this node knows. */
const MAX_EPOCH_STEP = 16
/** More changes than that are a member running wild: they are not looked at. */
const MAX_CHANGES_PER_MINUTE = 6
/** A notice names so many of the peers that a change bans; the list has them all. */
const MAX_NAMES_IN_NOTICE = 5

/**
 * Changes the mesh's secret and its ban list: a node that adopts a change saves it, tells the peers it is connected to,
 * then switches and drops the connections of those that did not confirm a new secret. Of two changes at the same time one
 * wins everywhere: a node that announces the other one gets the winner in return. So does one that was away or has just
 * joined.
 */
export class MembershipChanges {
  #membership: Membership
  readonly #components: MembershipChangesComponents
  #changedAtMs: number[] = []
  #switching: Promise<void> = Promise.resolve()
  #saving: Promise<void> = Promise.resolve()
  /** The secret that handshakes need now, in hex. */
  #secretInUse: string
  /** The report of the last secret that was switched to. */
  #report: ChangeReport = { reached: [], missed: [] }

  constructor(membership: Membership, components: MembershipChangesComponents) {
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
   * Gives every connected peer a new secret, from now on; with `ban` every one but that.
   *
   * @throws {RequestError} for a ban that the mesh cannot have or one change too many, {OvertakenError} when another won
   */
  async rotate({ ban }: { ban?: string | undefined } = {}): Promise<ChangeReport> {
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
   * Takes a peer off the mesh's ban list. The secret stays: no member is cut off, and that peer needs a ticket.
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

  async #change(change: Omit<MembershipChange, 'epoch'>): Promise<ChangeReport> {
    // The member that hears of it last counts it so much later than this node.
    if (!this.#counts(performance.now() + TELL_TIMEOUT_MS)) {
      throw new RequestError(
        `the mesh has changed ${MAX_CHANGES_PER_MINUTE} times within a minute, and its devices take no more: wait a minute`
      )
    }
    const { saved, spread } = this.#adopt({ ...change, epoch: this.#membership.epoch + 1 })
    await saved
    // Another node's change at the same time may have won: then the report is of that one.
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
  async onChange(peerId: string, change: MembershipChange): Promise<MembershipReply> {
    if (this.isBanned(peerId)) return { type: 'refused' }
    if (this.#isOwn(change)) return { type: 'adopted' }
    const own = this.#own
    if (change.epoch < own.epoch || (change.epoch === own.epoch && rank(change) < rank(own))) {
      return { type: 'later', rotation: own }
    }
    if (change.epoch > own.epoch + MAX_EPOCH_STEP) return { type: 'refused' }
    const { host, nameOf, onNotice } = this.#components
    if (!this.#counts(performance.now())) return { type: 'refused' }
    // A member that bans all others at once finds none to take part. Honest ones do not tell the peers that they ban.
    if (change.banned.includes(host.peerId)) {
      onNotice(
        `${nameOf(peerId)} bans this device from the mesh: who follows cuts it off until it joins with a new ticket`
      )
      return { type: 'refused' }
    }
    const changes = this.#changesBy(change)
    if (changes.length > 0) onNotice(`${nameOf(peerId)} ${changes.join(' and ')}`)
    // The answer must not wait until this node's own peers have answered.
    await this.#adopt(change).saved
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

  /** The node has the secret from now on; what it does with it waits until that is on disk. */
  #adopt(change: MembershipChange): { saved: Promise<void>; spread: Promise<void> } {
    const saved = this.#save({ ...change, secret: new Uint8Array(Buffer.from(change.secret, 'hex')) })
    this.#switching = this.#switching.then(() => saved.then(() => this.#tellAndSwitch(change)))
    // A disk that takes nothing is reported by `saved`.
    this.#switching = this.#switching.catch(() => {})
    return { saved, spread: this.#switching }
  }

  /** Nothing but what a later secret needs is done for one that it has overtaken: that has a turn of its own. */
  async #tellAndSwitch(change: MembershipChange): Promise<void> {
    if (!this.#isOwn(change)) return
    const { host, onKeys } = this.#components
    for (const peerId of change.banned) host.disconnect(peerId, new Error('banned'))
    const peers = host.connected.filter(peerId => !change.banned.includes(peerId))
    const adopted = await Promise.all(peers.map(peerId => this.#tell(peerId, change)))
    if (!this.#isOwn(change)) return
    const [reached, missed] = [true, false].map(is => peers.filter((_, at) => adopted[at] === is))
    this.#report = { reached: reached!, missed: missed! }
    if (change.secret === this.#secretInUse) return
    this.#secretInUse = change.secret
    await onKeys(meshKeys(this.#membership.secret))
    for (const peerId of missed!) host.disconnect(peerId, new Error('it did not get the new secret'))
  }

  async #tell(peerId: string, change: MembershipChange): Promise<boolean> {
    const refused: MembershipReply = { type: 'refused' }
    const late = new Promise<MembershipReply>(resolve =>
      setTimeout(resolve, TELL_TIMEOUT_MS, refused).unref()
    )
    const told = this.#components.membership.tell(peerId, change).catch(error => {
      log.passOver('a peer did not take a change of the mesh; it counts as missed', { peerId })(error)
      return refused
    })
    const reply = await Promise.race([told, late])
    if (reply.type === 'later') await this.onChange(peerId, reply.rotation)
    return reply.type === 'adopted'
  }

  /** Says to people which peers are let in no more or again, and what a new secret means. */
  #changesBy({ secret, banned }: MembershipChange): string[] {
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

  get #own(): MembershipChange {
    const { epoch, secret, banned } = this.#membership
    return { epoch, secret: hex(secret), banned }
  }

  #isOwn(change: MembershipChange): boolean {
    return change.epoch === this.#membership.epoch && rank(change) === rank(this.#own)
  }

  /** One write after the other, each of what counts then: the last one on disk is the last one here. */
  async #save(membership: Membership): Promise<void> {
    this.#membership = membership
    const saved = this.#saving.then(() => saveMembership(this.#components.home, this.#membership))
    // The caller that saves hears of it; the next one saves its own.
    this.#saving = saved.catch(() => {})
    await saved
  }
}

/** The larger rank wins of two changes with one number; those that leave the secret as it is differ in their lists. */
function rank({ secret, banned }: MembershipChange): string {
  return `${secret} ${banned.join(' ')}`
}

function hex(secret: Uint8Array): string {
  return Buffer.from(secret).toString('hex')
}
