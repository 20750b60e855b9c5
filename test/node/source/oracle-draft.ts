import type { Draft } from '../../../node/source/draft/draft.ts'
import { prng } from '../../fixtures/prng.ts'

export interface OracleInit {
  /** Tokens before the answer. */
  promptTokens: number
  /** The answer as it will be. */
  answer: readonly number[]
  /** Share of its guesses that are right. */
  right: number
  vocabSize: number
  seed?: number
  /** Waits so long before each proposal; absent: it answers at once. */
  delay?: () => Promise<void>
}

/** A draft that knows the answer, and is wrong on purpose as often as it is told to be. */
export class OracleDraft implements Draft {
  readonly #init: OracleInit
  readonly #random: () => number
  /** Tokens that it was asked for in all. */
  asked = 0

  constructor(init: OracleInit) {
    this.#init = init
    this.#random = prng(init.seed ?? 1)
  }

  propose(tokens: readonly number[], count: number): readonly number[] | Promise<readonly number[]> {
    const { promptTokens, answer, right, vocabSize, delay } = this.#init
    this.asked += count
    const at = tokens.length - promptTokens
    const wrong = (token: number) => (token + 1 + Math.floor(this.#random() * (vocabSize - 2))) % vocabSize
    const guesses = answer.slice(at, at + count).map(token => (this.#random() < right ? token : wrong(token)))
    return delay === undefined ? guesses : delay().then(() => guesses)
  }
}
