/** Proposes what may follow; what it proposes costs nothing but time where it is wrong. */
export interface Draft {
  /** Up to `count` tokens that may follow `tokens`, the conversation so far with its prompt. Fewer, or none, where it knows none. */
  propose(tokens: readonly number[], count: number): readonly number[] | Promise<readonly number[]>
}
