import type { NodeRecord } from '../api.ts'

/** What is known of one peer: its own words and what this node sees of it. */
export interface PeerEntry {
  record: NodeRecord
  connected: boolean
  /** Connected, but silent for longer than a heartbeat explains: plan without it. */
  suspect: boolean
  rttMs: number | null
  /** Milliseconds since the record came. */
  recordAgeMs: number
  /** Milliseconds since its last byte. */
  lastSeenMs: number
  addresses: string[]
}

interface Sight {
  record?: NodeRecord
  recordAtMs: number
  connected: boolean
  suspect: boolean
  /** The last heartbeats' round-trip times. */
  rtts: number[]
  seenAtMs: number
}

/** The round-trip time is the least of so many heartbeats: the others waited in a queue or for a busy process. */
const RTT_SAMPLES = 8
/** A peer that left is shown, as not connected, for so long. */
const FORGET_AFTER_MS = 10 * 60_000
/** Of those that left: a member that comes under ever new ids must not fill the memory with its records. */
const MAX_GONE = 256

/** The table of peers. A record is only ever written by its own sender; the clock is given, so tests can turn it. */
export class Directory {
  readonly #own: { record: NodeRecord }
  readonly #now: () => number
  readonly #sights = new Map<string, Sight>()

  constructor(own: NodeRecord, now: () => number = () => performance.now()) {
    this.#own = { record: own }
    this.#now = now
  }

  get own(): NodeRecord {
    return this.#own.record
  }

  /** Changes the own record; its sequence number goes up by one. */
  update(change: Partial<Omit<NodeRecord, 'peerId' | 'sequence'>>): void {
    this.#own.record = { ...this.own, ...change, sequence: this.own.sequence + 1 }
  }

  /** Peers that said what they are, connected or lately so, by name. */
  get peers(): PeerEntry[] {
    const now = this.#now()
    const entries = [...this.#sights.values()].flatMap(sight => entryOf(sight, now) ?? [])
    return entries.sort((a, b) => (a.record.name < b.record.name ? -1 : 1))
  }

  get(peerId: string): PeerEntry | undefined {
    const sight = this.#sights.get(peerId)
    return sight === undefined ? undefined : entryOf(sight, this.#now())
  }

  connected(peerId: string): void {
    const sight = this.#sight(peerId)
    sight.connected = true
    sight.suspect = false
    sight.seenAtMs = this.#now()
  }

  disconnected(peerId: string): void {
    const sight = this.#sights.get(peerId)
    if (sight === undefined) return
    sight.connected = false
    sight.suspect = false
    sight.rtts = []
    this.#sights.delete(peerId)
    if (sight.record === undefined) return
    // Behind those that left before.
    this.#sights.set(peerId, sight)
    const gone = [...this.#sights].filter(([, { connected }]) => !connected)
    for (const [oldest] of gone.slice(0, -MAX_GONE)) this.#sights.delete(oldest)
  }

  /** @returns true when this is the first record of this connection */
  record(peerId: string, record: NodeRecord): boolean {
    const sight = this.#sight(peerId)
    const first = sight.record === undefined
    sight.record = record
    sight.recordAtMs = this.#now()
    return first
  }

  measured(peerId: string, rttMs: number): void {
    const sight = this.#sight(peerId)
    sight.rtts = [...sight.rtts, rttMs].slice(-RTT_SAMPLES)
  }

  /** Heartbeats that the round-trip time rests on. */
  rttSamples(peerId: string): number {
    return this.#sights.get(peerId)?.rtts.length ?? 0
  }

  touched(peerId: string): void {
    const sight = this.#sights.get(peerId)
    if (sight !== undefined) sight.seenAtMs = this.#now()
  }

  /**
   * Who has been silent for too long.
   *
   * @returns connected peers that became suspect, stopped being it, and those to give up
   */
  review(
    suspectAfterMs: number,
    goneAfterMs: number
  ): { suspect: string[]; recovered: string[]; gone: string[] } {
    const now = this.#now()
    const result = { suspect: [] as string[], recovered: [] as string[], gone: [] as string[] }
    for (const [peerId, sight] of this.#sights) {
      const silentMs = now - sight.seenAtMs
      if (!sight.connected) {
        if (silentMs > FORGET_AFTER_MS) this.#sights.delete(peerId)
        continue
      }
      const suspect = silentMs > suspectAfterMs
      if (silentMs > goneAfterMs) result.gone.push(peerId)
      else if (suspect !== sight.suspect) result[suspect ? 'suspect' : 'recovered'].push(peerId)
      sight.suspect = suspect
    }
    return result
  }

  #sight(peerId: string): Sight {
    let sight = this.#sights.get(peerId)
    if (sight === undefined) {
      sight = { connected: false, suspect: false, rtts: [], recordAtMs: 0, seenAtMs: this.#now() }
      this.#sights.set(peerId, sight)
    }
    return sight
  }
}

/** Undefined for a peer that has not said yet what it is. */
function entryOf({ record, ...sight }: Sight, now: number): PeerEntry | undefined {
  if (record === undefined) return undefined
  const { recordAtMs, connected, suspect, rtts, seenAtMs } = sight
  const rttMs = rtts.length === 0 ? null : Math.min(...rtts)
  return {
    record,
    recordAgeMs: now - recordAtMs,
    connected,
    suspect,
    rttMs,
    lastSeenMs: now - seenAtMs,
    addresses: []
  }
}
