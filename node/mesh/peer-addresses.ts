import { multiaddr } from '@multiformats/multiaddr'

/** Addresses of one peer in each of the kinds below, and of each teller. */
const MAX_ADDRESSES = 8
/** Tellers whose last word is kept; of a stranger with many addresses of its own the newest ones push each other out. */
const MAX_TELLERS = 4
/** Another secret answers there, or another peer: asking again soon changes nothing. */
const REFUSED_PAUSE_MS = 60_000
/** Where the peer itself was met the network may be what has changed, so that is found out sooner: twice as long each time. */
const FIRST_PROVEN_PAUSE_MS = 5000
/** Something takes connections there and says nothing. */
const SLOW_PAUSE_MS = 10_000
/** What was noted of addresses that nobody names any more goes when there is more than this. */
const MAX_NOTES = 256

/** How a dial of an address ended: `refused`, by another secret or another peer; `slow`, not within its time. */
export type DialOutcome = 'refused' | 'slow' | 'unreachable'

/** What happened at an address. */
interface Note {
  triedAtMs: number
  refusals: number
  pausedUntilMs: number
}

/**
 * Where one peer may be, by who says so, each kind in places of its own:
 *
 * - proven: a handshake with the peer succeeded there, or this node's owner named it;
 * - own: the peer said so itself, on a connection that is its own;
 * - hinted: members said so; told: anybody did, in an announcement that anybody can send.
 *
 * However many are told, none of the others is forgotten for them. What a dial comes to counts against the address, not
 * against the peer: who answers at an address that a stranger told is the stranger.
 */
export class PeerAddresses {
  /** The one proven last comes first. */
  #proven: string[] = []
  #own: string[] = []
  readonly #hinted = new Hearsay()
  readonly #told = new Hearsay()
  readonly #notes = new Map<string, Note>()

  prove(...addresses: string[]): void {
    this.#proven = [...new Set([...addresses, ...this.#proven])].slice(0, MAX_ADDRESSES)
    for (const address of addresses) this.#notes.delete(address)
  }

  /**
   * The peer says where it listens; `seenAt` is where its connections come from. What it says of the very host that it
   * is connected from is proven; the rest may mean something on its own networks alone.
   */
  ownWord(addresses: readonly string[], seenAt: readonly string[]): void {
    this.#own = [...new Set(addresses)].slice(0, MAX_ADDRESSES)
    const hosts = new Set(seenAt.map(hostOf))
    const proven = this.#own.filter(address => hosts.has(hostOf(address)) && !this.#proven.includes(address))
    // Behind those that this node has dialled itself.
    this.#proven = [...this.#proven, ...proven].slice(0, MAX_ADDRESSES)
  }

  hint(addresses: readonly string[], member: string): void {
    this.#hinted.hear(addresses, member)
  }

  tell(addresses: readonly string[], teller: string): void {
    this.#told.hear(addresses, teller)
  }

  get proven(): readonly string[] {
    return this.#proven
  }

  /** What the peer itself stands for: proven addresses, then its own word. */
  get vouched(): string[] {
    return [...new Set([...this.#proven, ...this.#own])]
  }

  /** Who has told of it, the last one first. */
  get tellers(): string[] {
    return [...this.#told.tellers, ...this.#hinted.tellers]
  }

  get none(): boolean {
    return this.#all.length === 0
  }

  /** Proven addresses that can be dialled now, in the order in which they are to be. */
  provenNow(nowMs: number): string[] {
    return this.#proven.filter(address => !this.#isPaused(address, nowMs))
  }

  /** The others, those first that were not tried for longest, so that each gets its turn whoever tells of how many. */
  othersNow(nowMs: number): string[] {
    const triedAtMs = (address: string) => this.#notes.get(address)?.triedAtMs ?? Number.NEGATIVE_INFINITY
    return this.#all
      .filter(address => !this.#proven.includes(address) && !this.#isPaused(address, nowMs))
      .sort((a, b) => triedAtMs(a) - triedAtMs(b) || 0)
  }

  /** When there is an address to dial: `nowMs`, or when the first pause is over. */
  freeAtMs(nowMs: number): number {
    const pauses = this.#all.map(address => this.#notes.get(address)?.pausedUntilMs ?? nowMs)
    return Math.max(nowMs, Math.min(...pauses))
  }

  failed(address: string, outcome: DialOutcome, nowMs: number): void {
    const refusals = (this.#notes.get(address)?.refusals ?? 0) + (outcome === 'refused' ? 1 : 0)
    const proven = this.#proven.includes(address)
    let pauseMs = 0
    if (outcome === 'refused') {
      pauseMs = proven
        ? Math.min(REFUSED_PAUSE_MS, FIRST_PROVEN_PAUSE_MS * 2 ** (refusals - 1))
        : REFUSED_PAUSE_MS
    } else if (outcome === 'slow' && !proven) pauseMs = SLOW_PAUSE_MS
    this.#notes.delete(address)
    this.#notes.set(address, { triedAtMs: nowMs, refusals, pausedUntilMs: nowMs + pauseMs })
    if (this.#notes.size > MAX_NOTES) this.#forgetStaleNotes()
  }

  /** @returns whether an address was left alone for a refusal until now */
  forgetRefusals(): boolean {
    const refused = [...this.#notes].filter(([, { refusals }]) => refusals > 0)
    for (const [address] of refused) this.#notes.delete(address)
    return refused.length > 0
  }

  /** Without repeats, in the order of how much stands behind each. */
  get #all(): string[] {
    return [...new Set([...this.vouched, ...this.#hinted.addresses, ...this.#told.addresses])]
  }

  #isPaused(address: string, nowMs: number): boolean {
    return (this.#notes.get(address)?.pausedUntilMs ?? nowMs) > nowMs
  }

  #forgetStaleNotes(): void {
    const known = new Set(this.#all)
    for (const address of this.#notes.keys()) if (!known.has(address)) this.#notes.delete(address)
  }
}

/** What others say: the last words of each teller, so many addresses of one and no more. */
class Hearsay {
  readonly #byTeller = new Map<string, string[]>()

  hear(addresses: readonly string[], teller: string): void {
    const before = this.#byTeller.get(teller) ?? []
    this.#byTeller.delete(teller)
    this.#byTeller.set(teller, [...new Set([...addresses, ...before])].slice(0, MAX_ADDRESSES))
    const [oldest] = this.#byTeller.keys()
    if (this.#byTeller.size > MAX_TELLERS) this.#byTeller.delete(oldest!)
  }

  get tellers(): string[] {
    return [...this.#byTeller.keys()].reverse()
  }

  /** By turns: the first of each teller, then the second of each. */
  get addresses(): string[] {
    const lists = [...this.#byTeller.values()].reverse()
    return Array.from({ length: MAX_ADDRESSES }, (_, i) => lists.flatMap(list => list[i] ?? [])).flat()
  }
}

/** The IP of a multiaddr, in one spelling for each; the text itself where it has none. */
export function hostOf(address: string): string {
  const [, kind, ip] = /\/(ip4|ip6)\/([^/]+)/.exec(address) ?? []
  if (kind === undefined) return address
  return multiaddr(`/${kind}/${ip}`).toString()
}
