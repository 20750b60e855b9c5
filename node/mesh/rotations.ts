import { logger } from '../../models/log.ts'
import type { MembershipService, RotateReply, Rotation } from '../../protocols/membership/index.ts'
import { RequestError } from '../errors.ts'
import { OvertakenError } from './errors.ts'
import { type MeshKeys, meshKeys, newSecret } from './membership.ts'

const log = logger('edgeshard:mesh')

/** The mesh's secret, and who changed it to that; the first one was changed by nobody. */
export interface SecretState {
  secret: Uint8Array
  /** How often the secret was changed; the higher one wins. */
  epoch: number
  signed?: Pick<Rotation, 'by' | 'signature'> | undefined
}

/** Peer ids of the members that got a new secret, and of those that need a new ticket. */
export interface ChangeReport {
  reached: string[]
  missed: string[]
}

/** What a rotation acts on. */
export interface RotationsComponents {
  host: {
    readonly peerId: string
    /** Peers that are in the mesh and connected: the only ones that hear of a secret. */
    readonly connected: string[]
    disconnect(peerId: string, reason: Error): void
  }
  membership: Pick<MembershipService, 'tell'>
  /** Signs with this device's key. */
  sign(rotation: Omit<Rotation, 'signature'>): Rotation
  /** Whether an owner of the mesh has signed it. */
  isValid(rotation: Rotation): boolean
  save(state: SecretState): Promise<void>
  nameOf(peerId: string): string
  onNotice(message: string): void
  /** Handshakes and announcements use these keys from now on. */
  onKeys(keys: MeshKeys): Promise<void>
}

/** A member that passes a change on waits this long at most for its own peers before it switches. */
const TELL_TIMEOUT_MS = 5000
/** A secret so many changes ahead was not made by a mesh that this node knows. */
const MAX_EPOCH_STEP = 16
/** More changes than that are an owner running wild: they are not looked at. */
const MAX_CHANGES_PER_MINUTE = 6

/**
 * Changes the mesh's secret: a node that adopts one saves it, tells the members it is connected to, then switches and
 * drops the connections of those that did not confirm it. Of two at the same time one wins everywhere: a node that
 * announces the other one gets the winner in return. So does one that was away or has just joined.
 */
export class Rotations {
  #state: SecretState
  readonly #components: RotationsComponents
  #changedAtMs: number[] = []
  #switching: Promise<void> = Promise.resolve()
  /** The secret that handshakes need now, in hex. */
  #secretInUse: string
  /** The report of the last secret that was switched to. */
  #report: ChangeReport = { reached: [], missed: [] }

  constructor(state: SecretState, components: RotationsComponents) {
    this.#state = state
    this.#components = components
    this.#secretInUse = hex(state.secret)
  }

  get state(): SecretState {
    return this.#state
  }

  /**
   * Gives every connected member a new secret, from now on.
   *
   * @throws {RequestError} for one change too many, {OvertakenError} when another won
   */
  async rotate(): Promise<ChangeReport> {
    // The member that hears of it last counts it so much later than this node.
    if (!this.#counts(performance.now() + TELL_TIMEOUT_MS)) {
      throw new RequestError(
        `the mesh has changed ${MAX_CHANGES_PER_MINUTE} times within a minute, and its devices take no more: wait a minute`
      )
    }
    const { host, sign } = this.#components
    const secret = hex(newSecret())
    const rotation = sign({ epoch: this.#state.epoch + 1, secret, by: host.peerId })
    const { saved, spread } = this.#adopt(rotation)
    await saved
    // Another node's change at the same time may have won: then the report is of that one.
    for (let last = spread; ; last = this.#switching) {
      await last
      if (last === this.#switching) break
    }
    if (hex(this.#state.secret) !== secret) throw new OvertakenError()
    return this.#report
  }

  /**
   * A peer has been met: where one of the two was away, it hears now what the other one knows. The higher epoch speaks, at
   * the same one the smaller id; before the first change both know all, and a change under way tells of itself.
   */
  greet(peerId: string, epoch: number): void {
    const own = this.#own
    const { host } = this.#components
    const speaks = this.#state.epoch > epoch || (this.#state.epoch === epoch && host.peerId < peerId)
    if (own === null || !speaks || own.secret !== this.#secretInUse) return
    this.#tell(peerId, own).catch(
      log.passOver('greeting a peer failed; a disk that takes nothing is found out by the next change', {
        peerId
      })
    )
  }

  /** A member announces a secret; where this node has a later one, the member hears of that in return. */
  async onRotation(peerId: string, rotation: Rotation): Promise<RotateReply> {
    if (this.#isOwn(rotation)) return { type: 'adopted' }
    const refused: RotateReply = { type: 'refused', code: 'internal' }
    if (!this.#components.isValid(rotation)) {
      return { ...refused, reason: 'no owner of the mesh has signed that secret' }
    }
    const own = this.#own
    const { epoch } = this.#state
    if (
      own !== null &&
      (rotation.epoch < epoch || (rotation.epoch === epoch && rotation.secret < own.secret))
    ) {
      return { type: 'later', rotation: own }
    }
    if (rotation.epoch > epoch + MAX_EPOCH_STEP || !this.#counts(performance.now())) return refused
    const { nameOf, onNotice } = this.#components
    const whose = rotation.by === peerId ? nameOf(peerId) : `${nameOf(rotation.by)} (by ${nameOf(peerId)})`
    onNotice(`${whose} changed the secret of the mesh: devices that are off now need a new ticket`)
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

  /** The node has the secret from now on; what it does with it waits until that is on disk. */
  #adopt(rotation: Rotation): { saved: Promise<void>; spread: Promise<void> } {
    const { epoch, secret, by, signature } = rotation
    this.#state = { epoch, secret: new Uint8Array(Buffer.from(secret, 'hex')), signed: { by, signature } }
    const saved = this.#components.save(this.#state)
    this.#switching = this.#switching.then(() => saved.then(() => this.#tellAndSwitch(rotation)))
    // A disk that takes nothing is reported by `saved`.
    this.#switching = this.#switching.catch(() => {})
    return { saved, spread: this.#switching }
  }

  /** Nothing but what a later secret needs is done for one that it has overtaken: that has a turn of its own. */
  async #tellAndSwitch(rotation: Rotation): Promise<void> {
    if (!this.#isOwn(rotation)) return
    const { host, onKeys } = this.#components
    const peers = host.connected
    const adopted = await Promise.all(peers.map(peerId => this.#tell(peerId, rotation)))
    if (!this.#isOwn(rotation)) return
    const [reached, missed] = [true, false].map(is => peers.filter((_, at) => adopted[at] === is))
    this.#report = { reached: reached!, missed: missed! }
    if (rotation.secret === this.#secretInUse) return
    this.#secretInUse = rotation.secret
    await onKeys(meshKeys(this.#state.secret))
    for (const peerId of missed!) host.disconnect(peerId, new Error('it did not get the new secret'))
  }

  async #tell(peerId: string, rotation: Rotation): Promise<boolean> {
    const refused: RotateReply = { type: 'refused', code: 'internal' }
    const late = new Promise<RotateReply>(resolve => setTimeout(resolve, TELL_TIMEOUT_MS, refused).unref())
    const told = this.#components.membership.tell(peerId, rotation).catch(error => {
      log.passOver('a peer did not take a new secret; it counts as missed', { peerId })(error)
      return refused
    })
    const reply = await Promise.race([told, late])
    if (reply.type === 'later') await this.onRotation(peerId, reply.rotation)
    return reply.type === 'adopted'
  }

  /** The change to the secret that this node has; null before the first. */
  get #own(): Rotation | null {
    const { epoch, secret, signed } = this.#state
    return signed === undefined ? null : { epoch, secret: hex(secret), ...signed }
  }

  #isOwn({ epoch, secret }: Rotation): boolean {
    return epoch === this.#state.epoch && secret === hex(this.#state.secret)
  }
}

function hex(secret: Uint8Array): string {
  return Buffer.from(secret).toString('hex')
}
