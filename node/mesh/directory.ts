import type { NodeRecord, PeerState } from '../api.ts'
import type { FarDevice } from './far-devices.ts'

/** What the directory knows of one peer: its own words and what this node sees of it. */
export interface KnownPeer {
  /** Where the peer's directory has another version, its name and version alone, and that it offers nothing. */
  record: NodeRecord
  /** Only `connected` peers are planned with. */
  state: PeerState
  /** Why it is in another state than `connected`. */
  reason?: string
  /** True where `state` is `connected` or `suspect`. */
  connected: boolean
  /** False where the two have no connection now, and what is known of it was handed on by others. */
  direct: boolean
  /** True where `state` is `suspect`: silent for longer than a heartbeat explains. */
  suspect: boolean
  /** Round trip in ms; null before it was measured. */
  rttMs: number | null
  /** Milliseconds since the record came. */
  recordAgeMs: number
  /** Milliseconds since its last byte. */
  lastSeenMs: number
  addresses: string[]
}

/** What is known of a peer of another version. */
export interface Incompatibility {
  /** Short form of its id, where its record cannot be read. */
  name: string
  /** False where it speaks nothing of ours: it is shown only when it has said what it is nevertheless. */
  isNode: boolean
  /** The directory is what differs: neither its record nor a heartbeat can be expected. */
  mute: boolean
  /** What it runs, or `unknown`. */
  version: string
  reason: string
}

/** What others have handed on of devices that this node need not be connected to. */
export interface FarSight {
  readonly devices: readonly string[]
  get(peerId: string): FarDevice | undefined
  /** Whether this node needed a connection to a device lately and could not make one. */
  isOutOfReach(peerId: string): boolean
}

interface Sight {
  record?: NodeRecord
  recordAtMs: number
  connected: boolean
  connectedAtMs: number
  suspect: boolean
  /** Why nothing can be done with it, and what it runs, where that is so. */
  incompatible?: Incompatibility | undefined
  /** Why it left. */
  leftBecause: string
  /** The last heartbeats' round-trip times. */
  rtts: number[]
  seenAtMs: number
}

/** The round-trip time is the least of so many heartbeats: the others waited in a queue or for a busy process. */
const RTT_SAMPLES = 8
/** A peer that left is shown, as not connected, for so long. */
const FORGET_AFTER_MS = 10 * 60_000
/** An incompatible peer that is cut off comes and goes; it is gone when it has been away for so long. */
const AWAY_AFTER_MS = 20_000
/** Peers that left are kept up to here: a member that comes under ever new ids must not fill the memory. */
const MAX_GONE = 256
/** A peer that is incompatible and says nothing is let go after so long; it dials again where it is there. */
const MUTE_GONE_AFTER_MS = 120_000

/** The table of peers. A record is only ever written by its own sender; the clock is given, so tests can turn it. */
export class Directory {
  readonly #own: { record: NodeRecord }
  readonly #now: () => number
  readonly #far: FarSight
  readonly #sights = new Map<string, Sight>()

  constructor(own: NodeRecord, now: () => number = () => performance.now(), far: FarSight = NOBODY) {
    this.#own = { record: own }
    this.#now = now
    this.#far = far
  }

  get own(): NodeRecord {
    return this.#own.record
  }

  /** Changes the own record; its sequence number goes up by one. */
  update(change: Partial<Omit<NodeRecord, 'peerId' | 'sequence'>>): void {
    this.#own.record = { ...this.own, ...change, sequence: this.own.sequence + 1 }
  }

  /** Peers that said what they are, or that they cannot say it to this version; connected or lately so, by name. */
  get peers(): KnownPeer[] {
    const peerIds = new Set([...this.#sights.keys(), ...this.#far.devices])
    const known = [...peerIds].flatMap(peerId => this.get(peerId) ?? [])
    return known.sort((a, b) => (a.record.name < b.record.name ? -1 : 1))
  }

  get(peerId: string): KnownPeer | undefined {
    const sight = this.#sights.get(peerId)
    const far = this.#far.get(peerId)
    if (far !== undefined && this.#isFar(sight, far))
      return fromAfar(far, {
        incompatible: sight?.incompatible,
        isOutOfReach: this.#far.isOutOfReach(peerId)
      })
    return sight && this.#known(peerId, sight, far)
  }

  connected(peerId: string): void {
    const sight = this.#sight(peerId)
    sight.connected = true
    sight.connectedAtMs = this.#now()
    sight.suspect = false
    sight.seenAtMs = this.#now()
  }

  /** @param because - why, for people */
  disconnected(peerId: string, because = 'the connection to it ended'): void {
    const sight = this.#sights.get(peerId)
    if (sight === undefined) return
    sight.connected = false
    sight.leftBecause = because
    sight.suspect = false
    sight.rtts = []
    this.#sights.delete(peerId)
    if (sight.incompatible !== undefined) sight.seenAtMs = this.#now()
    if (sight.record === undefined && sight.incompatible === undefined) return
    // It goes behind those that left before.
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

  /** The peer is of another version, or of this one. It stays what it is until that is known of its next connection. */
  judged(peerId: string, incompatible: Incompatibility | undefined): void {
    this.#sight(peerId).incompatible = incompatible
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
   * Judges the peers by how long they have been silent.
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
      // It sends no heartbeats, so that only a long silence tells one without power from one with nothing to say.
      if (sight.incompatible?.mute) {
        if (silentMs > MUTE_GONE_AFTER_MS) result.gone.push(peerId)
        continue
      }
      const suspect = silentMs > suspectAfterMs
      if (silentMs > goneAfterMs) result.gone.push(peerId)
      else if (suspect !== sight.suspect) result[suspect ? 'suspect' : 'recovered'].push(peerId)
      sight.suspect = suspect
    }
    return result
  }

  /** Without a connection the word of others counts, unless it speaks another version: as long as they say it is there. */
  #isFar(sight: Sight | undefined, { state }: FarDevice): boolean {
    if (sight === undefined) return true
    if (sight.connected || state === 'gone') return false
    return sight.incompatible === undefined || this.#now() - sight.seenAtMs >= AWAY_AFTER_MS
  }

  #known(peerId: string, sight: Sight, far: FarDevice | undefined): KnownPeer | undefined {
    const { rtts, seenAtMs, incompatible } = sight
    const isUnread = incompatible?.mute && incompatible.isNode
    // On a new connection its record comes in a moment; what others handed on is newer than that of the one before.
    const isOld = sight.record === undefined || (sight.connected && sight.recordAtMs < sight.connectedAtMs)
    const heard = isOld && far !== undefined ? far.record : sight.record
    const record = isUnread ? unreadRecord(peerId, incompatible) : heard
    if (record === undefined) return undefined
    const recordAtMs = heard === sight.record ? sight.recordAtMs : this.#now() - (far?.ageMs ?? 0)
    const now = this.#now()
    const lastSeenMs = now - seenAtMs
    const { state, reason } = stateOf(sight, lastSeenMs)
    return {
      record,
      state,
      ...(reason !== undefined && { reason }),
      recordAgeMs: now - recordAtMs,
      connected: state === 'connected' || state === 'suspect',
      direct: sight.connected,
      suspect: state === 'suspect',
      rttMs: rtts.length === 0 ? null : Math.min(...rtts),
      lastSeenMs,
      addresses: []
    }
  }

  #sight(peerId: string): Sight {
    let sight = this.#sights.get(peerId)
    if (sight === undefined) {
      sight = {
        connected: false,
        connectedAtMs: 0,
        suspect: false,
        leftBecause: '',
        rtts: [],
        recordAtMs: 0,
        seenAtMs: this.#now()
      }
      this.#sights.set(peerId, sight)
    }
    return sight
  }
}

function stateOf(
  { connected, suspect, incompatible, leftBecause }: Sight,
  lastSeenMs: number
): { state: PeerState; reason?: string } {
  if (incompatible !== undefined && (connected || lastSeenMs < AWAY_AFTER_MS)) {
    return { state: 'incompatible', reason: incompatible.reason }
  }
  if (!connected) return { state: 'gone', reason: leftBecause }
  return suspect
    ? { state: 'suspect', reason: `nothing was heard of it for ${Math.round(lastSeenMs / 1000)} s` }
    : { state: 'connected' }
}

const NOBODY: FarSight = { devices: [], get: () => undefined, isOutOfReach: () => false }

/** A device as others have handed on what it says of itself, and what this node has found out when it needed it. */
function fromAfar(
  far: FarDevice,
  { incompatible, isOutOfReach }: { incompatible: Incompatibility | undefined; isOutOfReach: boolean }
): KnownPeer {
  const { record, ageMs, unreachedMs } = far
  const { state, reason } = stateFromAfar(far, incompatible, isOutOfReach)
  return {
    record,
    state,
    ...(reason !== undefined && { reason }),
    recordAgeMs: ageMs,
    connected: state === 'connected' || state === 'suspect',
    direct: false,
    suspect: state === 'suspect',
    rttMs: null,
    lastSeenMs: unreachedMs,
    addresses: []
  }
}

function stateFromAfar(
  { record, state, unreachedMs }: FarDevice,
  incompatible: Incompatibility | undefined,
  isOutOfReach: boolean
): { state: PeerState; reason?: string } {
  if (state === 'gone') return { state, reason: 'no device is connected to it any more' }
  // What it was found not to speak it speaks when it was updated.
  if (incompatible !== undefined && incompatible.version === record.version)
    return { state: 'incompatible', reason: incompatible.reason }
  if (isOutOfReach) return { state: 'suspect', reason: 'this device needed it and could not connect to it' }
  if (state === 'connected') return { state }
  return { state, reason: `no device has been connected to it for ${Math.round(unreachedMs / 1000)} s` }
}

/** What stands for the record of a peer that no record can be read of. */
function unreadRecord(peerId: string, { name, version }: Incompatibility): NodeRecord {
  return {
    peerId,
    name,
    version,
    sequence: 0,
    hardware: { platform: '', arch: '', cpu: '', cores: 0, totalMemoryBytes: 0 },
    memory: { budgetBytes: 0, freeBytes: 0 },
    models: [],
    leases: [],
    profiles: {},
    links: {}
  }
}
