/** How often one peer may ask at once, and how long it takes until it may once more. */
const MOST_AT_ONCE = 8
const ONE_MORE_MS = 15_000
/** Peers that are remembered; one that has not asked for longest is forgotten. */
const MAX_PEERS = 512

/** How often each peer may still ask for something that takes this device work. */
export class AskBudget {
  readonly #now: () => number
  readonly #peers = new Map<string, { left: number; atMs: number }>()

  /** @param now milliseconds from any fixed moment */
  constructor(now: () => number) {
    this.#now = now
  }

  /** Counts one. @returns seconds until the peer may ask; 0: it may now */
  take(peerId: string): number {
    const nowMs = this.#now()
    const before = this.#peers.get(peerId) ?? { left: MOST_AT_ONCE, atMs: nowMs }
    // A clock that was set back gives nothing.
    const earned = Math.max(0, nowMs - before.atMs) / ONE_MORE_MS
    const left = Math.min(MOST_AT_ONCE, before.left + earned)
    if (left < 1) return Math.ceil(((1 - left) * ONE_MORE_MS) / 1000)
    this.#peers.delete(peerId)
    this.#peers.set(peerId, { left: left - 1, atMs: nowMs })
    const [oldest] = this.#peers.keys()
    if (this.#peers.size > MAX_PEERS && oldest !== undefined) this.#peers.delete(oldest)
    return 0
  }
}
