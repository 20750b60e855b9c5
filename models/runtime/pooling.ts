/**
 * How the hidden states of a text, after the last norm, become one vector: `mean` of all tokens, or the `last` token's.
 */
export type Pooling = 'mean' | 'last'

export const POOLINGS: readonly Pooling[] = ['mean', 'last']

/**
 * What a sequence's normalised hidden states come to so far, at any moment a vector of length 1. Sums are float64, so that
 * it makes no difference in how many steps a text is computed.
 */
export class Pool {
  readonly #pooling: Pooling
  /** (hidden): of the mean the sum. */
  readonly #sum: Float64Array
  #tokens = 0

  constructor(pooling: Pooling, hiddenSize: number) {
    this.#pooling = pooling
    this.#sum = new Float64Array(hiddenSize)
  }

  /** Tokens that it is made of. */
  get tokens(): number {
    return this.#tokens
  }

  /**
   * Rows of a run of so many rows that it takes for a step of `tokens` tokens. A single one of several occurs twice: products
   * of one row add in another order than those of more, which it was computed with wherever the model is cut.
   */
  rowsOf(tokens: number, rows: number, last: boolean): number[] {
    if (this.#pooling === 'last' && !last) return []
    const taken = this.#pooling === 'mean' ? Array.from({ length: tokens }, (_, i) => i) : [tokens - 1]
    return taken.length === 1 && rows > 1 ? [taken[0]!, taken[0]!] : taken
  }

  /** Forgets what it is made of. */
  clear(): void {
    this.#sum.fill(0)
    this.#tokens = 0
  }

  /** A step's `tokens` tokens: `states` (rows, hidden) are those of the rows that it takes of them. */
  add(states: Float32Array, tokens: number): void {
    this.#tokens += tokens
    const sum = this.#sum
    if (states.length === 0) return
    if (this.#pooling === 'last') sum.fill(0)
    const rows = this.#pooling === 'last' ? 1 : tokens
    for (let row = 0; row < rows; row++) {
      const start = row * sum.length
      for (let i = 0; i < sum.length; i++) sum[i]! += states[start + i]!
    }
  }

  /** (hidden), of length 1; undefined where the states are not finite, or nothing but zeros. */
  vector(): Float32Array | undefined {
    let squares = 0
    for (const value of this.#sum) squares += value * value
    const length = Math.sqrt(squares)
    if (!Number.isFinite(length) || length === 0) return undefined
    return Float32Array.from(this.#sum, value => value / length)
  }
}

/** True of what `Pool` makes: finite numbers, of length 1 within what float32 loses. */
export function isUnitVector(vector: Float32Array): boolean {
  let squares = 0
  for (const value of vector) squares += value * value
  return Math.abs(squares - 1) < 1e-3
}
