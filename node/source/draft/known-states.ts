/** So many are kept that were fed already: behind a wrong guess, or a new beginning, some are fed again. */
const KEPT_BEHIND = 64
/** More that wait to be fed are not kept: 32 MiB of a hidden size of 4,096. */
const MAX_KEPT = 2048

/** What a model has made of a conversation's tokens, by their positions, as long as it is of use. */
export class KnownStates {
  readonly #hiddenSize: number
  readonly #states = new Map<number, Float32Array>()

  constructor(hiddenSize: number) {
    this.#hiddenSize = hiddenSize
  }

  has(position: number): boolean {
    return this.#states.has(position)
  }

  /** @param states (tokens, hidden) of the tokens from `position` on */
  add(position: number, states: Float32Array): void {
    const width = this.#hiddenSize
    for (let row = 0; (row + 1) * width <= states.length; row++) {
      this.#states.set(position + row, states.subarray(row * width, (row + 1) * width))
    }
    // Those that came first, which are those that lie furthest back.
    for (const oldest of this.#states.keys()) {
      if (this.#states.size <= MAX_KEPT) break
      this.#states.delete(oldest)
    }
  }

  /** Positions `[start, end)` that follow each other up to the last one that is known before `before`; undefined: none is. */
  lastRun(before: number): [start: number, end: number] | undefined {
    let end = -1
    for (const position of this.#states.keys()) if (position < before) end = Math.max(end, position + 1)
    if (end < 0) return undefined
    let start = end - 1
    while (this.#states.has(start - 1)) start--
    return [start, end]
  }

  /** Those of the positions `[start, end)`, all of which are known: (tokens, hidden). */
  rows(start: number, end: number): Float32Array {
    const rows = new Float32Array((end - start) * this.#hiddenSize)
    for (let at = start; at < end; at++) rows.set(this.#states.get(at)!, (at - start) * this.#hiddenSize)
    return rows
  }

  /** Those up to `position` are fed. */
  fed(position: number): void {
    for (const known of this.#states.keys()) if (known < position - KEPT_BEHIND) this.#states.delete(known)
  }
}
