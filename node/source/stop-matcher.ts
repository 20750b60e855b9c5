/**
 * Finds stop strings in text that arrives in pieces. Text that could be the beginning of a stop string is held back
 * until it is clear that it is none, so that a stop string is never shown, not even half of it.
 */
export class StopMatcher {
  readonly #stops: string[]
  #held = ''

  /** @param stops - non-empty strings; none at all passes every text through */
  constructor(stops: readonly string[]) {
    this.#stops = stops.filter(stop => stop !== '')
  }

  /** Takes the next piece; returns what may be shown and whether a stop string ended the text. */
  push(piece: string): { text: string; stopped: boolean } {
    this.#held += piece
    const first = Math.min(...this.#stops.map(stop => this.#held.indexOf(stop)).filter(at => at >= 0))
    if (Number.isFinite(first)) {
      const text = this.#held.slice(0, first)
      this.#held = ''
      return { text, stopped: true }
    }
    const kept = Math.max(0, ...this.#stops.map(stop => overlap(this.#held, stop)))
    const text = this.#held.slice(0, this.#held.length - kept)
    this.#held = this.#held.slice(this.#held.length - kept)
    return { text, stopped: false }
  }

  /** What was held back, once no more text comes. */
  flush(): string {
    const text = this.#held
    this.#held = ''
    return text
  }
}

/** Length of the longest proper beginning of `stop` that `text` ends with. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length
  }
  return 0
}
