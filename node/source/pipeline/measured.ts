import type { StageTiming } from '../../../protocols/stage/frame.ts'
import type { MeasuredStep } from '../../api.ts'

export type { MeasuredStep }

/** What the source itself has seen of an answer's steps, beside what the stages said of them. */
export interface ObservedStep extends MeasuredStep {
  /** From the start of a step to its token, by this node's clock: mean of all steps, those that are doubted too. */
  stepMs: number
  /** Steps whose reported times cannot be true: `steps` and the means over them leave these out. */
  doubted: number
  /** What was wrong with the first of them. */
  doubt: string | undefined
  /** Steps that were under way at once, in the mean, these with them: of several micro-batches, or of guesses sent ahead. @default 1 */
  underWay?: number
}

interface Sums {
  computeMs: number
  waitMs: number
  linkMs: number
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
    if (this.#steps === 0) this.#sums = timings.map(() => ({ computeMs: 0, waitMs: 0, linkMs: 0 }))
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
      sums.waitMs += sentAtMs - arrivedAtMs - computeMs
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
    return { ...this.means, stepMs, doubted: this.#doubted, doubt: this.#doubt, underWay }
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
