import { type HeadBuffers, selectNormed } from './head-buffers.ts'
import type { RunTensors } from './slot-tensors.ts'

/** What a model has made of a step's tokens, after its last norm: of each run of the step the rows that it computes. */
export class States {
  readonly #hiddenSize: number
  readonly #runs: { normed: Float32Array; tokens: number }[] = []

  constructor(hiddenSize: number) {
    this.#hiddenSize = hiddenSize
  }

  /** The states of all tokens so far, (tokens, hidden). */
  get all(): Float32Array {
    const [first] = this.#runs
    const taken = this.#runs.map(({ normed, tokens }) => normed.subarray(0, tokens * this.#hiddenSize))
    if (taken.length === 1 && first!.normed.length === taken[0]!.length) return first!.normed
    const all = new Float32Array(taken.reduce((sum, { length }) => sum + length, 0))
    let at = 0
    for (const part of taken) {
      all.set(part, at)
      at += part.length
    }
    return all
  }

  /**
   * Makes the next run compute the states of its `tokens` tokens, and the logits of the rows `sampled`, as many times as they
   * are named: it is given `rows` rows.
   */
  select(
    tensors: RunTensors,
    head: HeadBuffers,
    { tokens, rows, sampled }: { tokens: number; rows: number; sampled: readonly number[] }
  ): void {
    // A row that is there to make two of one goes along: what the last layer makes of one row alone is rounded otherwise.
    const taken = Array.from({ length: Math.max(tokens, Math.min(rows, 2)) }, (_, row) =>
      Math.min(row, tokens - 1)
    )
    const normed = selectNormed(tensors, taken, this.#hiddenSize)
    head.selectLogits(tensors, sampled)
    this.#runs.push({ normed, tokens })
  }
}
