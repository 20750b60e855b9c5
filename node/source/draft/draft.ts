/** Proposes what may follow; what it proposes costs nothing but time where it is wrong. */
export interface Draft {
  /** Share of its guesses that have held for the same model, 0 to 1; absent where that is not known. */
  readonly acceptance?: number | undefined
  /** Up to `count` tokens that may follow `tokens`, the conversation so far with its prompt. Fewer, or none, where it knows none. */
  propose(tokens: readonly number[], count: number): readonly number[] | Promise<readonly number[]>
  /**
   * Called with what the model made of the conversation's tokens from `position` on, behind its last norm, (tokens, hidden):
   * as soon as they are computed, before anything is proposed behind them. Absent: it needs none.
   */
  readonly saw?: ((position: number, states: Float32Array) => void) | undefined
  /** Called when a guess has come to be compared with what was drawn. */
  judged?(right: boolean): void
}
