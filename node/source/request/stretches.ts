import type { Stretch } from '../../api.ts'
import type { MeasuredStep } from '../pipeline/measured.ts'
import type { PlacedAnswer } from '../placement/deployments.ts'

/** The place where an answer is, the tokens that it drew there and when, and what the stages measured once that is over. */
interface Timed {
  placed: Pick<PlacedAnswer, 'plan' | 'predicted'>
  tokens: number
  firstMs: number
  lastMs: number
  measured: MeasuredStep | undefined
}

/**
 * The parts of one answer that had a plan each: it may be placed anew or go over to other devices between two of its tokens,
 * and what its first plan predicted says nothing of what a token takes from then on.
 */
export class Stretches {
  readonly #all: Timed[] = []

  /** Has `placed` compute it from the next token on. */
  begin(placed: Timed['placed']): void {
    this.#all.push({ placed, tokens: 0, firstMs: 0, lastMs: 0, measured: undefined })
  }

  /** Counts a token that was drawn just now, in ms of any fixed moment. */
  drawn(nowMs: number): void {
    const stretch = this.#all.at(-1)
    if (stretch === undefined) return
    if (stretch.tokens++ === 0) stretch.firstMs = nowMs
    stretch.lastMs = nowMs
  }

  /** What the stages of `placed` measured; nothing where the answer has had no token of it. */
  measured(placed: Timed['placed'], measured: MeasuredStep): void {
    const stretch = this.#all.find(each => each.placed === placed)
    if (stretch !== undefined) stretch.measured = measured
  }

  /** Those that have tokens, in their order; undefined where the first plan had all of them. */
  get list(): Stretch[] | undefined {
    const drawn = this.#all.filter(({ tokens }) => tokens > 0)
    if (drawn.every(stretch => stretch === this.#all[0])) return undefined
    return drawn.map(({ placed: { plan, predicted }, tokens, firstMs, lastMs, measured }) => ({
      ...{ plan, predicted, tokens },
      ...(measured !== undefined && { measured }),
      tpotMs: tokens > 1 ? (lastMs - firstMs) / (tokens - 1) : 0
    }))
  }
}
