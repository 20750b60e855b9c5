import { logger } from '../../models/log.ts'
import type { Meeting, Refusal } from '../../protocols/membership/index.ts'

const log = logger('edgeshard:mesh')

export interface MeetingsInit {
  peerId: string
  /** Proves this node to a peer and judges it. */
  meet(peerId: string): Promise<Meeting>
  disconnect(peerId: string, reason: Error): void
  /** The digest of what this node knows. */
  digest(): string
  /** Both sides have judged: all protocols may be spoken. Once a connection. */
  onMet(peerId: string, epoch: number): void
  /** A peer is cut off, on its own word or on this node's; its connection ends. */
  onRefused(peerId: string, by: 'self' | 'peer', refusal: Refusal): void
}

interface Acquaintance {
  /** This node has judged that the peer is in: what it opens is served. */
  accepted: boolean
  /** The peer has judged so, too. */
  met: boolean
  /** It speaks another version of the membership: it is shown, and spoken with by nobody. */
  foreign: boolean
  meeting: boolean
  /** The set has changed during the meeting. */
  again: boolean
  /** Of what the peer knows, as far as it has said so. */
  digest: string | undefined
  /** What waits: the end of the time to prove itself, and the next meeting. */
  timers: Set<NodeJS.Timeout>
}

/** A peer proves itself within this time; a meeting takes two round trips. */
const PROOF_TIMEOUT_MS = 10_000
/** A stranger that knows the secret could hold all places for connections else. */
const MAX_UNPROVEN = 64
/** The larger id opens a meeting after this, where the smaller one has not. */
const SECOND_MOVE_MS = 2000
/** A meeting that broke is held again. */
const AGAIN_MS = 1000
const LATE_AGAIN_MS = 30_000
/** A refusal is on its way before the connection ends. */
const REFUSAL_MS = 500

/** Who of the connected peers has proven that it is in the mesh: the one gate that all other protocols stand behind. */
export class Meetings {
  readonly #init: MeetingsInit
  readonly #known = new Map<string, Acquaintance>()

  constructor(init: MeetingsInit) {
    this.#init = init
  }

  /** Whether streams that the peer opens are served. */
  accepts(peerId: string): boolean {
    return this.#known.get(peerId)?.accepted === true
  }

  /** Whether streams to the peer may be opened. */
  hasMet(peerId: string): boolean {
    return this.#known.get(peerId)?.met === true
  }

  /** Peers that have proven themselves to this node, or are about to hear that this node is in. */
  get accepted(): string[] {
    return [...this.#known].filter(([, { accepted }]) => accepted).map(([peerId]) => peerId)
  }

  connected(peerId: string): void {
    const entry: Acquaintance = {
      accepted: false,
      met: false,
      foreign: false,
      meeting: false,
      again: false,
      digest: undefined,
      timers: new Set()
    }
    this.#known.set(peerId, entry)
    this.#makeRoom()
    this.#later(entry, PROOF_TIMEOUT_MS, () => {
      if (!entry.met && !entry.foreign) this.#cut(peerId, 'it has not proven that it was admitted')
    })
    if (this.#init.peerId < peerId) void this.#meet(peerId, entry)
    else {
      // The other one may not know that this connection is new: its old one to this device is dead and has not ended.
      this.#later(entry, SECOND_MOVE_MS, () => {
        if (!entry.accepted) void this.#meet(peerId, entry)
      })
    }
  }

  disconnected(peerId: string): void {
    const entry = this.#known.get(peerId)
    this.#known.delete(peerId)
    for (const timer of entry?.timers ?? []) clearTimeout(timer)
  }

  /** A peer has said that it speaks another version of the membership: nothing can be proven, nothing is spoken. */
  unable(peerId: string): void {
    const entry = this.#known.get(peerId)
    if (entry !== undefined) entry.foreign = true
  }

  /** This node has judged that the peer is in, or is not: then the connection ends as soon as it has heard why. */
  judged(peerId: string, refusal: Refusal | null, digest: string): void {
    const entry = this.#known.get(peerId)
    if (entry === undefined) return
    if (refusal === null) {
      entry.accepted = true
      entry.digest = digest
      return
    }
    entry.accepted = false
    entry.met = false
    this.#init.onRefused(peerId, 'self', refusal)
    this.#later(entry, REFUSAL_MS, () => this.#cut(peerId, refusal.reason ?? refusal.code))
  }

  /** Both have judged. */
  met(peerId: string, epoch: number): void {
    const entry = this.#known.get(peerId)
    if (entry === undefined || !entry.accepted || entry.met) return
    entry.met = true
    this.#init.onMet(peerId, epoch)
  }

  /** What the peer and this node know is the same now. */
  agreed(peerId: string): void {
    const entry = this.#known.get(peerId)
    // What this node has learnt of others during the meeting the peer may not have.
    if (entry !== undefined && !entry.again) entry.digest = this.#init.digest()
  }

  /** The peer refuses this node, or this node a peer that was in before: the connection ends at once. */
  refused(peerId: string, by: 'self' | 'peer', refusal: Refusal): void {
    const entry = this.#known.get(peerId)
    if (entry === undefined) return
    this.#init.onRefused(peerId, by, refusal)
    this.#cut(peerId, refusal.reason ?? refusal.code)
  }

  /**
   * The set has changed: every peer that is not known to have the same one is met again, but for the one with which a
   * meeting is under way.
   */
  changed(except: string | undefined): void {
    const digest = this.#init.digest()
    for (const [peerId, entry] of this.#known) {
      if (peerId !== except && entry.accepted && entry.digest !== digest) void this.#meet(peerId, entry)
    }
  }

  stop(): void {
    for (const peerId of [...this.#known.keys()]) this.disconnected(peerId)
  }

  async #meet(peerId: string, entry: Acquaintance): Promise<void> {
    if (entry.foreign) return
    if (entry.meeting) {
      entry.again = true
      return
    }
    entry.meeting = true
    entry.again = false
    try {
      const meeting = await this.#init.meet(peerId)
      if (this.#known.get(peerId) !== entry) return
      // Where this node refuses, its judgement has cut the peer off already.
      if (meeting.type === 'refused' && meeting.by === 'peer') this.refused(peerId, 'peer', meeting.refusal)
    } catch (error) {
      log.passOver('meeting a peer failed; it is met again', { peerId })(error)
      if (this.#known.get(peerId) !== entry) return
      this.#later(entry, entry.met ? LATE_AGAIN_MS : AGAIN_MS, () => void this.#meet(peerId, entry))
    } finally {
      entry.meeting = false
    }
    const isBehind = entry.again && entry.digest !== this.#init.digest()
    if (isBehind && this.#known.get(peerId) === entry) await this.#meet(peerId, entry)
  }

  #makeRoom(): void {
    const unproven = [...this.#known].filter(([, { met }]) => !met)
    if (unproven.length <= MAX_UNPROVEN) return
    this.#cut(unproven[0]![0], 'others wait to prove themselves')
  }

  #cut(peerId: string, why: string): void {
    this.disconnected(peerId)
    this.#init.disconnect(peerId, new Error(why))
  }

  #later(entry: Acquaintance, delayMs: number, act: () => void): void {
    const timer = setTimeout(() => {
      entry.timers.delete(timer)
      act()
    }, delayMs)
    entry.timers.add(timer)
  }
}
