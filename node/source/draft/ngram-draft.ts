import type { AnswerPool } from './answer-pool.ts'
import type { Draft } from './draft.ts'
import { BREAK, NGramIndex } from './ngram-index.ts'

/** No window is as wide. */
export const MAX_PROPOSED_TOKENS = 256
/** Tokens of a conversation that are looked in, its first ones: 11 MiB. */
const MAX_INDEXED_TOKENS = 2 ** 18

export interface LookedUp {
  proposed: readonly number[]
  /** So many of the last tokens agreed. */
  length: number
}

const NOTHING: LookedUp = { proposed: [], length: 0 }

/**
 * Proposes what followed the last tokens when they occurred before: in the conversation, else in what this source has
 * answered for the same client. It takes microseconds: the tokens are compared with those of the call before, and only those
 * that are new are indexed.
 */
export class NGramDraft implements Draft {
  readonly #index = new NGramIndex(MAX_INDEXED_TOKENS)
  readonly #scope: string
  readonly #pool: Pick<AnswerPool, 'find'>

  /** @param scope what the client named as its own, if anything; see `AnswerPool` */
  constructor({ scope, pool }: { scope: string; pool: Pick<AnswerPool, 'find'> }) {
    this.#scope = scope
    this.#pool = pool
  }

  propose(tokens: readonly number[], count: number): readonly number[] {
    return this.lookUp(tokens, count).proposed
  }

  /** Does as `propose`, and says how many of the last tokens agreed with those before what is proposed. */
  lookUp(tokens: readonly number[], count: number): LookedUp {
    this.#follow(tokens)
    const here = this.#index.find(tokens)
    const earlier = this.#pool.find(this.#scope, tokens)
    const most = Math.min(count, MAX_PROPOSED_TOKENS)
    if (earlier !== undefined && earlier.occurrence.length > (here?.length ?? 0)) {
      const { position, length } = earlier.occurrence
      return { proposed: followers(earlier.index, position, most, false), length }
    }
    if (here === undefined) return NOTHING
    return { proposed: followers(this.#index, here.position, most, true), length: here.length }
  }

  #follow(tokens: readonly number[]): void {
    const common = this.#index.commonLength(tokens)
    this.#index.truncate(common)
    for (let i = common; i < tokens.length; i++) this.#index.push(tokens[i]!)
  }
}

/**
 * Up to `count` tokens from `position` on.
 *
 * @param goesOn the row's end is where the proposal is put, so what repeats itself goes on repeating itself
 */
function followers(index: NGramIndex, position: number, count: number, goesOn: boolean): number[] {
  const proposed: number[] = []
  while (proposed.length < count) {
    const at = position + proposed.length
    if (at >= index.length && !goesOn) break
    const token = at < index.length ? index.at(at) : proposed[at - index.length]!
    if (token === BREAK) break
    proposed.push(token)
  }
  return proposed
}
