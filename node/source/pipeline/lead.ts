import type { TokenMask } from '../../../models/runtime/token-mask.ts'

/** A token of an answer that is fed back, and what may be drawn behind it; absent: anything. */
export interface CertainToken {
  id: number
  mask?: TokenMask | undefined
}

/**
 * The tokens of an answer that are certain, as its session gets them, from the first of the reply on. A session on other
 * stages that is to take its place feeds them in the same steps: it need not draw one before it feeds the next.
 */
export class Lead {
  readonly #tokens: CertainToken[]
  readonly #followers = new Set<() => void>()

  /** @param known tokens of the reply that its session began with */
  constructor(known: readonly number[]) {
    this.#tokens = known.map(id => ({ id }))
  }

  get ids(): number[] {
    return this.#tokens.map(({ id }) => id)
  }

  get length(): number {
    return this.#tokens.length
  }

  at(index: number): CertainToken | undefined {
    return this.#tokens[index]
  }

  add(token: CertainToken): void {
    this.#tokens.push(token)
    for (const follower of this.#followers) follower()
  }

  /** Calls back whenever there is one more token. @returns what ends that */
  follow(onMore: () => void): () => void {
    this.#followers.add(onMore)
    return () => void this.#followers.delete(onMore)
  }
}
