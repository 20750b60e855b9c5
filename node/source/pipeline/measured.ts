import type { StageTiming } from '../../../protocols/stage/frame.ts'
import type { MeasuredStep } from '../../api.ts'
import { medianOf } from '../median.ts'

export type { MeasuredStep }

/** What the source itself has seen of an answer's steps, beside what the stages said of them. */
export interface ObservedStep extends MeasuredStep {
  /** Time from the start of a step to its token, by this node's clock: mean of all steps, those that are doubted too. */
  stepMs: number
  /** Steps whose reported times cannot be true: `steps` and the means over them leave these out. */
  doubted: number
  /** What was wrong with the first of them. */
  doubt: string | undefined
  /** Steps that were under way at once, in the mean, these with them: of several micro-batches, or of guesses sent ahead. @default 1 */
  underWay?: number
  /**
   * What stages took beside their layers in the median of the last steps, in the plan's order: prompts of others that some
   * steps waited for are not in it. @default the means
   */
  usualWaitsMs?: readonly number[]
}

/** Steps whose waits are kept one by one. */
const KEPT_WAITS = 128

interface Sums {
  computeMs: number
  waitMs: number
  linkMs: number
  /** The last ones, in no order. */
  waitsMs: number[]
}

/** What the stages report with each token of an answer. */
export class MeasuredSteps {
  #steps = 0
  #sequences = 0
  #contextTokens = 0
  #underWay = 0
  #sums: Sums[] = []
  #allMs = 0
  #doubted = 0
  #doubt: string | undefined

  /**
   * @param timings of all stages of one decode step
   * @param receivedAtMs when its token came back, in ms since the epoch
   * @param sequences sessions that it drew a token for
   * @param contextTokens in the answer's own KV cache before it
   * @param underWay steps that were under way when it came back, this one with them
   */
  add(
    timings: readonly StageTiming[],
    receivedAtMs: number,
    sequences: number,
    contextTokens: number,
    underWay = 1
  ): void {
    const stepMs = receivedAtMs - (timings[0]?.arrivedAtMs ?? receivedAtMs)
    // The first step says how many stages there are.
    if (this.#steps === 0)
      this.#sums = timings.map(() => ({ computeMs: 0, waitMs: 0, linkMs: 0, waitsMs: [] }))
    if (timings.length !== this.#sums.length) {
      this.doubt(stepMs, sequences, `a step has passed ${timings.length} stages, others ${this.#sums.length}`)
      return
    }
    this.#steps++
    this.#sequences += sequences
    this.#contextTokens += contextTokens
    this.#underWay += underWay
    this.#allMs += stepMs
    timings.forEach(({ arrivedAtMs, sentAtMs, computeMs }, i) => {
      const sums = this.#sums[i]!
      sums.computeMs += computeMs
      const waitMs = sentAtMs - arrivedAtMs - computeMs
      sums.waitMs += waitMs
      sums.waitsMs[(this.#steps - 1) % KEPT_WAITS] = waitMs
      sums.linkMs += (timings[i + 1]?.arrivedAtMs ?? receivedAtMs) - sentAtMs
    })
  }

  /** A step of so many ms whose times cannot be true, as `reason` says. */
  doubt(stepMs: number, sequences: number, reason: string): void {
    this.#doubted++
    this.#sequences += sequences
    this.#allMs += stepMs
    this.#doubt ??= reason
  }

  get observed(): ObservedStep {
    const steps = this.#steps + this.#doubted
    const stepMs = steps === 0 ? 0 : this.#allMs / steps
    const underWay = this.#steps === 0 ? 1 : this.#underWay / this.#steps
    const usualWaitsMs = this.#sums.map(({ waitsMs }) => medianOf(waitsMs) ?? 0)
    return { ...this.means, stepMs, doubted: this.#doubted, doubt: this.#doubt, underWay, usualWaitsMs }
  }

  get means(): MeasuredStep {
    const mean = (sum: number) => sum / this.#steps
    const steps = this.#steps + this.#doubted
    return {
      steps: this.#steps,
      sequences: steps === 0 ? 0 : this.#sequences / steps,
      contextTokens: this.#steps === 0 ? 0 : mean(this.#contextTokens),
      stages: this.#sums.map(({ computeMs, waitMs }) => ({
        computeMs: mean(computeMs),
        waitMs: mean(waitMs)
      })),
      linksMs: this.#sums.length > 1 ? this.#sums.map(({ linkMs }) => mean(linkMs)) : []
    }
  }
}
