import {
  MAX_BANNED,
  MAX_CHAIN,
  MAX_COUNTER,
  MAX_DEVICES,
  MAX_OWNERS
} from '../../protocols/membership/constants.ts'
import type { Hello, Refusal, Statement, Unsigned } from '../../protocols/membership/index.ts'
import { isPeerId } from '../../protocols/peer-id.ts'
import { RequestError } from '../errors.ts'
import { StatementSet } from './statements.ts'

export interface RollInit {
  peerId: string
  mesh: string
  statements: readonly Statement[]
  /** Signs with this device's key. */
  sign(statement: Unsigned): Statement
  isSigned(statement: Statement): boolean
  /** The set has changed. */
  onChange(): void
}

/**
 * The roll of a mesh as one device knows it and adds to it: what it signs of others, and what it makes of the proof that
 * another one shows. Without clock, disk and network, so that thousands of meetings can be simulated.
 */
export class Roll {
  readonly #init: RollInit
  readonly #set: StatementSet

  constructor(init: RollInit) {
    this.#init = init
    this.#set = new StatementSet(init.mesh, statement => init.isSigned(statement))
    this.#set.merge(init.statements)
  }

  /** What is known, to be read. */
  get known(): Omit<StatementSet, 'merge'> {
    return this.#set
  }

  /** Whether this device is in itself. */
  get isIn(): boolean {
    return this.#set.isIn(this.#init.peerId)
  }

  get isOwner(): boolean {
    return this.#set.isOwner(this.#init.peerId)
  }

  /** What this device proves itself with, and says that it knows. */
  get proof(): Pick<Hello, 'mesh' | 'proof' | 'digest'> {
    const { mesh, digest } = this.#set
    return { mesh, digest, proof: this.#set.proofOf(this.#init.peerId) }
  }

  /** Judges a peer by what it proves and what is known already; null where it is in. */
  judge(peerId: string, { mesh, proof }: Pick<Hello, 'mesh' | 'proof'>): Refusal | null {
    if (mesh !== this.#set.mesh) {
      return { code: 'other-mesh', reason: 'it belongs to another mesh that has the same secret' }
    }
    // Who is not in tells this device nothing: else one that is banned could keep all the others busy.
    if (this.#set.merge(proof, peerId)) this.#init.onChange()
    return this.refusalOf(peerId)
  }

  /** Why a device is not let in; null where it is. */
  refusalOf(peerId: string): Refusal | null {
    if (this.#set.isIn(peerId)) return null
    return this.#set.isBanned(peerId)
      ? { code: 'banned', reason: 'it is banned from the mesh' }
      : { code: 'not-admitted', reason: 'no device that is in the mesh has admitted it' }
  }

  /** Adds what others have signed. */
  take(statements: readonly Statement[]): void {
    if (this.#set.merge(statements)) this.#init.onChange()
  }

  /**
   * Admits a device; one that is banned is not let in. One that is in already stays so, and where an owner admits it, it
   * depends no longer on who did before.
   *
   * @throws {RequestError}
   */
  admit(device: string): void {
    const depth = this.#set.depthOf(this.#init.peerId)
    if (depth === undefined) throw new RequestError('this device is not admitted itself')
    const isKnown = !this.isOwner || this.#set.admittersOf(device).includes(this.#init.peerId)
    if (this.#set.isIn(device) && isKnown) return
    if (depth >= MAX_CHAIN || this.#set.devices.length >= MAX_DEVICES) {
      throw new RequestError('the mesh is full: an owner has to invite, or to ban devices that are gone')
    }
    this.#sign(this.#admission(device))
  }

  /**
   * Bans a device and with it all that only it has let in, but for `keep`: those are admitted by this device. What an
   * owner that the founder bans has banned itself stays so, in the founder's name.
   *
   * @throws {RequestError} for a ban that the mesh cannot have
   */
  ban(device: string, keep: readonly string[] = []): void {
    const { peerId } = this.#init
    const set = this.#set
    if (!isPeerId(device)) throw new RequestError(`'${device.slice(0, 100)}' is no peer id`, 'peerId')
    if (device === peerId) throw new RequestError('a device cannot ban itself', 'peerId')
    if (device === set.founder)
      throw new RequestError('nobody can ban the device that made the mesh', 'peerId')
    if (set.isOwner(device) && peerId !== set.founder)
      throw new RequestError('it is an owner: only the device that made the mesh can ban it', 'peerId')
    if (keep.includes(device)) throw new RequestError('a device cannot be banned and kept', 'keep')
    const inherited = set.banned.filter(banned => set.bannedBy(banned) === device)
    const added = set.isBanned(device) ? inherited : [device, ...inherited]
    if (set.bansOf(peerId) + added.length > MAX_BANNED) {
      throw new RequestError(
        `this device has banned ${MAX_BANNED} devices, which is as many as may be: another owner has to`
      )
    }
    this.#sign(
      ...keep.map(kept => this.#admission(kept)),
      ...added.map(banned => this.#verdict('ban', banned))
    )
  }

  /** Lets a device in again, as it was admitted before; what it had admitted itself has to be admitted anew. */
  unban(device: string): void {
    if (this.#set.isBanned(device)) this.#sign(this.#verdict('unban', device))
  }

  /** Makes a device an owner, for good. @throws {RequestError} */
  promote(device: string): void {
    if (this.#set.isOwner(device)) return
    const refusal = this.refusalOf(device)
    if (refusal !== null) throw new RequestError(`it cannot be an owner: ${refusal.reason}`, 'peerId')
    if (this.#set.owners.length > MAX_OWNERS)
      throw new RequestError(`the mesh has ${MAX_OWNERS} owners, which is as many as may be`)
    this.#sign({ type: 'owner', device, by: this.#init.peerId })
  }

  #admission(device: string): Unsigned {
    const by = this.#init.peerId
    return { type: 'admit', device, by, counter: this.#set.admitCounter(by) }
  }

  #verdict(type: 'ban' | 'unban', device: string): Unsigned {
    const by = this.#init.peerId
    const counter = this.#set.nextCounter(device, by)
    if (counter > MAX_COUNTER) {
      throw new RequestError(
        'another owner has driven the count of its bans to the end: the device that made the mesh has to ban that owner'
      )
    }
    return { type, device, by, counter }
  }

  #sign(...statements: Unsigned[]): void {
    this.take(statements.map(statement => this.#init.sign(statement)))
  }
}
