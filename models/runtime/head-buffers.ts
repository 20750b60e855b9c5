import type { Tensor } from '../onnx/session.ts'
import { LOG_SUM, LOGIT_ROWS, LOGITS, NORMED, ROWS } from '../onnx/shard-graph.ts'
import { mainTensor } from './processor.ts'
import type { ReplyHistory } from './reply-history.ts'
import type { SampledToken } from './runtime.ts'
import { type Sampling, sampleToken } from './sampler.ts'
import type { RunTensors } from './slot-tensors.ts'
import type { TokenMask } from './token-mask.ts'

/** What a run that makes logits of so many rows is given for them. */
interface LogitTensors {
  rows: Tensor
  all: Tensor
  logits: Tensor
  logSums: Tensor
}

/**
 * Makes the next run compute the states of `rows` after the head's norm and no logits.
 *
 * @returns the memory that they will be in, (rows, hidden)
 */
export function selectNormed(
  { feeds, fetches }: RunTensors,
  rows: readonly number[],
  hiddenSize: number
): Float32Array {
  const normed = new Float32Array(rows.length * hiddenSize)
  feeds[ROWS] = mainTensor(Int32Array.from(rows), [rows.length])
  feeds[LOGIT_ROWS] = mainTensor(new Int32Array(0), [0])
  fetches[NORMED] = mainTensor(normed, [rows.length, hiddenSize])
  return normed
}

/** Memory for the logits of up to `capacity` rows, used in every run. */
export class HeadBuffers {
  /** Rows that a run may select. */
  readonly capacity: number
  readonly #vocabSize: number
  /** Rows of the flattened (batch * tokens) that reach the head: (capacity). */
  readonly #rows: Int32Array
  /** (capacity, vocabulary) */
  readonly #logits: Float32Array<ArrayBuffer>
  readonly #logSums: Float32Array
  /** The rows of which logits are made, among those that reach the head: all. */
  readonly #all: Int32Array
  readonly #tensors = new Map<number, LogitTensors>()

  constructor(vocabSize: number, capacity: number) {
    this.capacity = capacity
    this.#vocabSize = vocabSize
    this.#rows = new Int32Array(capacity)
    this.#all = Int32Array.from({ length: capacity }, (_, i) => i)
    this.#logits = new Float32Array(capacity * vocabSize)
    this.#logSums = new Float32Array(capacity)
  }

  /** Makes the next run compute the logits of `rows` only; none skips the head. */
  select({ feeds, fetches }: RunTensors, rows: readonly number[]): void {
    this.#rows.set(rows)
    const { rows: indices, all, logits, logSums } = this.#tensorsOf(rows.length)
    feeds[ROWS] = indices
    feeds[LOGIT_ROWS] = all
    fetches[LOGITS] = logits
    fetches[LOG_SUM] = logSums
  }

  /** Makes the next run compute the logits of these of the rows that reach the head; a row may be named twice. */
  selectLogits({ feeds, fetches }: RunTensors, rows: readonly number[]): void {
    const { logits, logSums } = this.#tensorsOf(rows.length)
    feeds[LOGIT_ROWS] = mainTensor(Int32Array.from(rows), [rows.length])
    fetches[LOGITS] = logits
    fetches[LOG_SUM] = logSums
  }

  /**
   * Draws a token from the logits of the run's selected row `index`, which follow the token at `position`; undefined
   * when they are not numbers. Only what `mask` allows is drawn.
   */
  sample(
    index: number,
    sampling: Sampling,
    position: number,
    { reply, mask }: { reply?: ReplyHistory | undefined; mask?: TokenMask | undefined } = {}
  ): SampledToken | undefined {
    const logSum = this.#logSums[index]!
    if (!Number.isFinite(logSum)) return undefined
    const start = index * this.#vocabSize
    const logits = this.#logits.subarray(start, start + this.#vocabSize)
    return sampleToken(logits, logSum, sampling, position, { reply, mask })
  }

  /** Gives the memory back now. No run may use the buffers any more. */
  free(): void {
    this.#logits.buffer.transfer(0)
  }

  #tensorsOf(count: number): LogitTensors {
    let tensors = this.#tensors.get(count)
    if (tensors === undefined) {
      const logits = this.#logits.subarray(0, count * this.#vocabSize)
      tensors = {
        rows: mainTensor(this.#rows.subarray(0, count), [count]),
        all: mainTensor(this.#all.subarray(0, count), [count]),
        logits: mainTensor(logits, [count, this.#vocabSize]),
        logSums: mainTensor(this.#logSums.subarray(0, count), [count, 1])
      }
      this.#tensors.set(count, tensors)
    }
    return tensors
  }
}
