/** So many at once, and one more after each so many ms. */
interface Rate {
  most: number
  everyMs: number
}

/** What one member may cause: who joins says what it is in several records. */
const OF_ONE: Rate = { most: 4, everyMs: 30_000 }
/** What all members may cause together. */
const OF_ALL: Rate = { most: 16, everyMs: 2000 }

/**
 * How often running answers are looked at at once because members have come, gone or changed what they are. Whoever does that
 * without end has used up its own part of it, and none of that of the others. The clock is given.
 */
export class LookBudget {
  /** When a member's part is whole again, where it is not. */
  readonly #wholeAtMs = new Map<string, number>()
  #allWholeAtMs = Number.NEGATIVE_INFINITY

  /** True where one of the members that have changed may cause a look now, which is then its own. */
  take(peerIds: readonly string[], nowMs: number): boolean {
    for (const [peerId, atMs] of this.#wholeAtMs) if (atMs <= nowMs) this.#wholeAtMs.delete(peerId)
    const able = peerIds.filter(peerId => has(OF_ONE, this.#wholeAtMs.get(peerId), nowMs))
    if (able.length === 0 || !has(OF_ALL, this.#allWholeAtMs, nowMs)) return false
    this.#allWholeAtMs = after(OF_ALL, this.#allWholeAtMs, nowMs)
    for (const peerId of able) this.#wholeAtMs.set(peerId, after(OF_ONE, this.#wholeAtMs.get(peerId), nowMs))
    return true
  }
}

function has({ most, everyMs }: Rate, wholeAtMs = Number.NEGATIVE_INFINITY, nowMs: number): boolean {
  return wholeAtMs - nowMs <= (most - 1) * everyMs
}

function after({ everyMs }: Rate, wholeAtMs = Number.NEGATIVE_INFINITY, nowMs: number): number {
  return Math.max(wholeAtMs, nowMs) + everyMs
}
