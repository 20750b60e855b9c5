import { logger } from '../../models/log.ts'
import { LimitExceededError } from '../../protocols/errors.ts'
import {
  type Admitted,
  createMembershipService,
  type Hello,
  type MembershipHandlers,
  type MembershipService,
  type Redeem,
  type Refusal,
  type RotateReply,
  type Rotation,
  rotationBytes,
  type Statement
} from '../../protocols/membership/index.ts'
import { messageOf } from '../../protocols/text.ts'
import type { BanReport, MembershipControl, MembershipState, PeerName } from '../api.ts'
import { DeviceNames } from './device-names.ts'
import type { Discovery } from './discovery.ts'
import { NotOwnerError } from './errors.ts'
import type { Host } from './host.ts'
import { LatestWrite } from './latest-write.ts'
import { Meetings } from './meetings.ts'
import { type Membership, type MeshKeys, saveMembership } from './membership.ts'
import { Refusals } from './refusals.ts'
import type { Roll } from './roll.ts'
import { Rotations } from './rotations.ts'
import { signedRoll } from './signed-roll.ts'
import { isSignedBy, type Signer } from './signing.ts'
import { Spaced } from './spaced.ts'
import { encodeTicket, TICKET_TTL_MS } from './ticket.ts'
import type { Tickets } from './tickets.ts'

const log = logger('edgeshard:mesh')

export interface MembersInit {
  home: string
  host: Host
  discovery: Discovery
  signer: Signer
  tickets: Tickets
  /** The membership as the home directory has it. */
  membership: Membership
  /** What a peer calls itself; undefined of one that has not said it, lately. */
  heardName(peerId: string): string | undefined
  onNotice(message: string): void
  /** A peer and this node have proven themselves to each other: all protocols may be spoken. */
  onMet(peerId: string): void
  /** The secret changed: announcements use these keys from now on. */
  onKeys(keys: MeshKeys): void
  /** Who is in the mesh may have changed. @default nobody else needs to know */
  onRoll?(): void
  /**
   * Devices that have the secret of an epoch, or a later one, by their own word that others handed on; waits for the last
   * of those that are there. @default none
   */
  reachedByOthers?(epoch: number): Promise<string[]>
}

/** A member that meets this node more often than that within a minute runs wild. */
const MAX_MEETINGS_PER_MINUTE = 240
/** What others say is written at most once in so long: every member that knows it would say it again. */
const TAKEN_PAUSE_MS = 5000

/** The members of the mesh: tickets let in, bans and rotations keep out, and nobody else is spoken with. */
export class Members implements MembershipControl {
  readonly #init: MembersInit
  readonly #mesh: string
  readonly #roll: Roll
  readonly #rotations: Rotations
  readonly #meetings: Meetings
  readonly #refusals: Refusals
  readonly #names: DeviceNames
  /** Meetings of a peer within the minute that began at `sinceMs`. */
  readonly #rates = new Map<string, { sinceMs: number; count: number }>()
  #service: MembershipService | undefined
  /** The last one on disk is the last one here. */
  readonly #file = new LatestWrite(() => {
    this.#isTakenWritten = true
    this.#takenWrite.isDone()
    return saveMembership(this.#init.home, this.membership)
  })
  /** What others have said, or are called, is on its way to the disk at least. */
  #isTakenWritten = true
  readonly #takenWrite = new Spaced(TAKEN_PAUSE_MS, () => this.#saveOrSay())
  /** The peer whose statements are being taken: the meeting with it goes on. */
  #source: string | undefined
  #wasIn: boolean

  constructor(init: MembersInit) {
    const { host, signer, membership, discovery, heardName, onNotice } = init
    const { mesh, secret, epoch, signed, names = {} } = membership
    this.#names = new DeviceNames(names, heardName)
    const nameOf = (peerId: string) => this.nameOf(peerId)
    this.#init = init
    this.#mesh = mesh
    this.#roll = signedRoll(membership, signer, () => this.#onChange())
    this.#wasIn = this.#roll.isIn
    this.#refusals = new Refusals({ nameOf, onNotice })
    this.#meetings = new Meetings({
      peerId: host.peerId,
      meet: peerId => started(this.#service).meet(peerId),
      disconnect: (peerId, reason) => host.disconnect(peerId, reason),
      digest: () => this.#roll.known.digest,
      onMet: (peerId, epoch) => {
        init.onMet(peerId)
        this.#rotations.greet(peerId, epoch)
      },
      onRefused: (peerId, by, refusal) => {
        discovery.refused(peerId)
        this.#refusals.refused(peerId, by, refusal)
      }
    })
    this.#rotations = new Rotations(
      { secret, epoch, signed },
      {
        host,
        membership: { tell: (peerId, rotation) => started(this.#service).tell(peerId, rotation) },
        sign: rotation => ({ ...rotation, signature: signer.sign(rotationBytes(mesh, rotation)) }),
        isValid: rotation =>
          this.#roll.known.isOwner(rotation.by) &&
          isSignedBy(rotation.by, rotationBytes(mesh, rotation), rotation.signature),
        save: () => this.#file.ask(),
        nameOf,
        onNotice,
        onKeys: async keys => {
          init.onKeys(keys)
          await host.rekey(keys)
          discovery.forgetRefusals()
        }
      }
    )
  }

  /** Registers the protocol; before the host starts. */
  async start(): Promise<void> {
    this.#service = await createMembershipService(this.#init.host, this.#handlers())
    if (!this.#roll.isIn) this.#init.onNotice(this.#whyOut())
  }

  /** A peer is connected and has proven nothing yet. */
  connected(peerId: string): void {
    this.#meetings.connected(peerId)
  }

  disconnected(peerId: string): void {
    this.#meetings.disconnected(peerId)
  }

  /** A peer has said that it speaks another version of the membership. */
  unable(peerId: string): void {
    this.#meetings.unable(peerId)
  }

  async stop(): Promise<void> {
    this.#meetings.stop()
    await this.#service?.stop()
    this.#takenWrite.stop()
    const written = this.#isTakenWritten ? this.#file.last : this.#file.ask()
    await written.catch(log.passOver('the last write failed; others say again what they have said'))
  }

  /** Whether streams that the peer opens are served. */
  accepts(peerId: string): boolean {
    return this.#meetings.accepts(peerId)
  }

  /** Whether the peer and this node have proven themselves to each other. */
  hasMet(peerId: string): boolean {
    return this.#meetings.hasMet(peerId)
  }

  /** The membership as it is now. */
  get membership(): Membership {
    const { all: statements } = this.#roll.known
    return { mesh: this.#mesh, statements, ...this.#rotations.state, names: this.#names.all }
  }

  /** What a device calls itself, or called itself when it was last heard of; else a short form of its id. */
  nameOf(peerId: string): string {
    return this.#names.nameOf(peerId)
  }

  /** A member has said what it calls itself. */
  introduced(peerId: string): void {
    if (this.#names.remember(peerId)) this.#saveTaken()
  }

  get state(): MembershipState {
    const { host } = this.#init
    const { known } = this.#roll
    const named = (peerId: string) => ({ peerId, name: this.nameOf(peerId) })
    return {
      mesh: this.#mesh,
      isIn: this.#roll.isIn,
      devices: known.devices.map(peerId => ({
        ...named(peerId),
        self: peerId === host.peerId,
        founder: peerId === known.founder,
        owner: known.isOwner(peerId),
        admittedBy: known.admittersOf(peerId).map(named),
        dependents: known.dependingOn(peerId).map(named)
      })),
      banned: known.banned.map(named)
    }
  }

  /** Peer ids of the devices that admitted one. */
  admittersOf(peerId: string): string[] {
    return this.#roll.known.admittersOf(peerId)
  }

  /** @throws {NotOwnerError} where this device is not in its mesh and can let nobody in */
  checkIsIn(): void {
    if (!this.#roll.isIn) throw new NotOwnerError(this.#whyOut())
  }

  /** A ticket that lets another device join this node's mesh, once; `device` alone, where it is named. */
  async invite(ttlMs: number = TICKET_TTL_MS, device?: string): Promise<string> {
    this.checkIsIn()
    const { host, tickets } = this.#init
    const { code, expiresAtMs } = await tickets.open(ttlMs, device)
    const { secret } = this.#rotations.state
    const { addresses, peerId: inviter } = host
    return encodeTicket({ secret, mesh: this.#mesh, inviter, code, addresses, expiresAtMs })
  }

  async ban(peerId: string, { keep = [] }: { keep?: readonly string[] } = {}): Promise<BanReport> {
    this.#onlyOwners('ban')
    const before = this.#roll.known.devices
    this.#roll.ban(peerId, keep)
    await this.#file.last
    const named = (id: string) => ({ peerId: id, name: this.nameOf(id) })
    const out = before.filter(id => !this.#roll.known.isIn(id))
    return { out: [...new Set([peerId, ...out])].map(named), kept: keep.map(named) }
  }

  async unban(peerId: string): Promise<void> {
    this.#onlyOwners('unban')
    this.#roll.unban(peerId)
    await this.#file.last
  }

  async promote(peerId: string): Promise<void> {
    const { known } = this.#roll
    if (this.#init.host.peerId !== known.founder) {
      throw new NotOwnerError(
        `only the device that made this mesh can promote: ${this.nameOf(known.founder)}`
      )
    }
    this.#roll.promote(peerId)
    await this.#file.last
  }

  async rotate(): Promise<{ reached: PeerName[]; missed: PeerName[] }> {
    this.#onlyOwners('rotate')
    const { discovery } = this.#init
    const known = [...discovery.contacts.keys()].filter(peerId => this.#roll.known.isIn(peerId))
    const { reached: told } = await this.#rotations.rotate()
    const byOthers = (await this.#init.reachedByOthers?.(this.#rotations.state.epoch)) ?? []
    const reached = [...new Set([...told, ...byOthers])]
    const named = (peerId: string) => ({ peerId, name: this.nameOf(peerId) })
    const missed = known.filter(peerId => !reached.includes(peerId))
    return { reached: reached.map(named), missed: missed.map(named) }
  }

  /** Peers that are not let in. */
  get banned(): string[] {
    return this.#roll.known.banned
  }

  /** Whether a device is an owner, or was admitted by one. */
  isOwners(peerId: string): boolean {
    const { known } = this.#roll
    return known.isOwner(peerId) || known.admittersOf(peerId).some(admitter => known.isOwner(admitter))
  }

  /** Whether a device is in the mesh. */
  isIn(peerId: string): boolean {
    return this.#roll.known.isIn(peerId)
  }

  isBanned(peerId: string): boolean {
    return this.#roll.known.isBanned(peerId)
  }

  /** Why a peer is not let in, for people; null where it is, or where nothing is known of it. */
  whyOut(peerId: string): string | null {
    const { known } = this.#roll
    if (known.isBanned(peerId)) return 'it is banned from the mesh'
    if (known.isIn(peerId) || known.admittersOf(peerId).length === 0) return null
    return 'the device that admitted it is banned from the mesh'
  }

  #handlers(): MembershipHandlers {
    const { tickets, onNotice } = this.#init
    return {
      hello: () => ({ ...this.#roll.proof, epoch: this.#rotations.state.epoch }),
      judge: (peerId: string, hello: Hello) => {
        this.#count(peerId)
        const refusal = this.#from(peerId, () => this.#roll.judge(peerId, hello))
        this.#meetings.judged(peerId, refusal, hello.digest)
        return refusal
      },
      statements: () => this.#roll.known.all,
      take: (peerId: string, statements: Statement[]) => {
        // Who was put out since it was judged tells nothing.
        if (!this.#meetings.accepts(peerId)) return
        this.#from(peerId, () => this.#roll.take(statements))
        this.#meetings.agreed(peerId)
      },
      met: (peerId: string, { epoch, digest }: Hello) => {
        if (digest === this.#roll.known.digest) this.#meetings.agreed(peerId)
        this.#meetings.met(peerId, epoch)
      },
      refused: (peerId: string, refusal: Refusal) => this.#meetings.refused(peerId, 'peer', refusal),
      redeem: async (peerId: string, { mesh, code }: Redeem): Promise<Admitted | Refusal> => {
        if (mesh !== this.#mesh) return { code: 'other-mesh', reason: 'the ticket is of another mesh' }
        if (!this.#roll.isIn) return { code: 'not-admitted', reason: this.#whyOut() }
        if (this.isBanned(peerId)) {
          return { code: 'banned', reason: "the device is banned: an owner has to 'edgeshard mesh unban' it" }
        }
        const refusal = await tickets.take(Buffer.from(code, 'hex'), peerId)
        if (refusal !== null) return refusal
        const wasIn = this.#roll.known.isIn(peerId)
        try {
          this.#roll.admit(peerId)
        } catch (error) {
          return { code: 'full', reason: messageOf(error) }
        }
        await this.#file.last
        if (!wasIn) onNotice(`${this.nameOf(peerId)} has joined the mesh with a ticket of this device`)
        const { secret, epoch, signed } = this.#rotations.state
        const proof = this.#roll.known.proofOf(peerId)
        return { proof, epoch, secret: Buffer.from(secret).toString('hex'), ...signed }
      },
      rotate: async (peerId: string, rotation: Rotation): Promise<RotateReply> => {
        if (this.#meetings.accepts(peerId)) return await this.#rotations.onRotation(peerId, rotation)
        return { type: 'refused', code: 'not-admitted' }
      }
    }
  }

  /** Who is out now is cut off, what is known is written, and the others hear of it. */
  #onChange(): void {
    if (this.#source === undefined) this.#saveOrSay()
    else this.#saveTaken()
    // Who was refused may be in now; who is out is refused anew.
    this.#init.discovery.forgetRefusals()
    for (const peerId of this.#meetings.accepted) {
      const refusal = this.#roll.refusalOf(peerId)
      if (refusal !== null) this.#meetings.refused(peerId, 'self', refusal)
    }
    this.#init.onRoll?.()
    const { isIn } = this.#roll
    if (this.#wasIn && !isIn) this.#init.onNotice(this.#whyOut())
    this.#wasIn = isIn
    this.#meetings.changed(this.#source)
  }

  #from<T>(peerId: string, act: () => T): T {
    this.#source = peerId
    try {
      return act()
    } finally {
      this.#source = undefined
    }
  }

  /** @throws {LimitExceededError} for a member that meets this node again and again */
  #count(peerId: string): void {
    const now = performance.now()
    for (const [id, { sinceMs }] of this.#rates) if (now - sinceMs > 60_000) this.#rates.delete(id)
    const rate = this.#rates.get(peerId) ?? { sinceMs: now, count: 0 }
    this.#rates.set(peerId, rate)
    if (++rate.count > MAX_MEETINGS_PER_MINUTE)
      throw new LimitExceededError('it meets this node more often than members do')
  }

  /** @throws {NotOwnerError} naming who may */
  #onlyOwners(what: string): void {
    if (this.#roll.isOwner) return
    const owners = this.#roll.known.owners.map(peerId => this.nameOf(peerId))
    throw new NotOwnerError(`only owners of this mesh can ${what}: ${owners.join(', ')}`)
  }

  #whyOut(): string {
    const { known } = this.#roll
    const { host } = this.#init
    const by = known.bannedBy(host.peerId)
    return by === undefined
      ? "this device is not admitted to its mesh and runs alone: on a device that is, 'edgeshard invite', and here 'edgeshard join' with the ticket"
      : `this device is banned from its mesh by ${this.nameOf(by)} and runs alone until an owner lets it in again ('edgeshard mesh unban')`
  }

  #saveTaken(): void {
    this.#isTakenWritten = false
    this.#takenWrite.ask()
  }

  #saveOrSay(): void {
    this.#file.ask().catch((error: Error) => {
      this.#init.onNotice(`what changed of the mesh could not be written: ${error.message}`)
    })
  }
}

function started<T>(service: T | undefined): T {
  if (service === undefined) throw new Error('the members are not started')
  return service
}
