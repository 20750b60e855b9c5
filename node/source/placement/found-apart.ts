/** How long it is believed of two devices that they cannot reach each other, though they say that they can. */
const APART_MS = 60_000

/** Pairs of devices that answers found unable to reach each other, whatever they say, for as long as that is believed. */
export class FoundApart {
  readonly #found = new Map<string, { pair: readonly [string, string]; untilMs: number }>()
  readonly #now: () => number

  /** @param now milliseconds from any fixed moment */
  constructor(now: () => number) {
    this.#now = now
  }

  get pairs(): (readonly [string, string])[] {
    const nowMs = this.#now()
    for (const [key, { untilMs }] of this.#found) if (untilMs <= nowMs) this.#found.delete(key)
    return [...this.#found.values()].map(({ pair }) => pair)
  }

  add(pair: readonly [string, string]): void {
    this.#found.set(pairKey(pair), { pair, untilMs: this.#now() + APART_MS })
  }

  /** A device is gone; when it is back it may have been mended. */
  forget(peerId: string): void {
    for (const [key, { pair }] of this.#found) if (pair.includes(peerId)) this.#found.delete(key)
  }
}

/** Each pair once, whoever is named first. */
export function distinctPairs(pairs: readonly (readonly [string, string])[]): (readonly [string, string])[] {
  return [...new Map(pairs.map(pair => [pairKey(pair), pair])).values()]
}

function pairKey(pair: readonly [string, string]): string {
  return [...pair].sort().join(' ')
}
