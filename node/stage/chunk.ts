import { allocateHidden } from '../../models/runtime/hidden.ts'
import type { HiddenStates } from '../../models/runtime/runtime.ts'
import { statesOf } from './rows.ts'

/** Kernels for a single row round otherwise than those for more, which round alike: so no piece of a chunk is one token. */
export const LEAST_PIECE_TOKENS = 2

/** A step of one session's prompt that waits for its turn, or is computed in pieces, and what has come of these so far. */
export class Chunk<Arrived extends { input: Int32Array | HiddenStates }> {
  readonly arrived: Arrived
  /** It may be computed in pieces. */
  readonly isCut: boolean
  /** What its pieces took. */
  computeMs = 0
  /** Its last turn was given to a step of running answers. */
  gaveWay = false
  /** It shares no run with other steps any more. */
  isApart = false
  readonly #input: Int32Array | HiddenStates
  readonly #tokens: number
  readonly #hiddenSize: number
  readonly #delivered = Promise.withResolvers<void>()
  #done = 0
  #hidden: HiddenStates | undefined

  constructor(arrived: Arrived, { hiddenSize, isCut }: { hiddenSize: number; isCut: boolean }) {
    this.arrived = arrived
    this.isCut = isCut
    this.#input = arrived.input
    this.#tokens = arrived.input instanceof Int32Array ? arrived.input.length : arrived.input.tokens
    this.#hiddenSize = hiddenSize
  }

  /** Resolves when its result has been handed on. */
  get delivered(): Promise<void> {
    return this.#delivered.promise
  }

  /** Tokens that are computed. */
  get done(): number {
    return this.#done
  }

  /** Tokens that are not computed. */
  get left(): number {
    return this.#tokens - this.#done
  }

  /** Hidden states of its tokens, where they come out as such: whole when none are left. */
  get hidden(): HiddenStates | undefined {
    return this.#hidden
  }

  /** Tokens of the next piece: at most so many, and one more where only that would be left. */
  next(most: number): number {
    return this.left <= most + 1 ? this.left : most
  }

  /** The input of the next piece, in the chunk's own memory. */
  input(tokens: number): Int32Array | HiddenStates {
    const [start, end] = [this.#done, this.#done + tokens]
    return this.#input instanceof Int32Array
      ? this.#input.subarray(start, end)
      : statesOf(this.#input, start, end)
  }

  /** The next piece is computed. */
  add(tokens: number, computeMs: number, hidden?: HiddenStates): void {
    if (hidden !== undefined && tokens === this.#tokens) this.#hidden = hidden
    else if (hidden !== undefined) {
      this.#hidden ??= allocateHidden(this.#tokens, this.#hiddenSize)
      this.#hidden.data.set(hidden.data, this.#done * this.#hiddenSize)
    }
    this.#done += tokens
    this.computeMs += computeMs
  }

  /** Its result is handed on when this is. */
  end(delivered: Promise<void>): void {
    this.#delivered.resolve(delivered)
  }

  fail(error: unknown): void {
    this.#delivered.reject(error)
  }
}
