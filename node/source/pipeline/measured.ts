import type { StageTiming } from '../../../protocols/stage/frame.ts'
import type { MeasuredStep } from '../../api.ts'

export type { MeasuredStep }

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
  #sums: Sums[] = []

  /**
   * @param timings of all stages of one decode step
   * @param receivedAtMs when its token came back, in ms since the epoch
   * @param sequences sessions that it drew a token for
   * @param contextTokens in the answer's own KV cache before it
   */
  add(timings: readonly StageTiming[], receivedAtMs: number, sequences: number, contextTokens: number): void {
    // The first step says how many stages there are.
    if (timings.length !== this.#sums.length) {
      this.#steps = 0
      this.#sequences = 0
      this.#contextTokens = 0
      this.#sums = timings.map(() => ({ computeMs: 0, waitMs: 0, linkMs: 0 }))
    }
    this.#steps++
    this.#sequences += sequences
    this.#contextTokens += contextTokens
    timings.forEach(({ arrivedAtMs, sentAtMs, computeMs }, i) => {
      const sums = this.#sums[i]!
      sums.computeMs += computeMs
      sums.waitMs += sentAtMs - arrivedAtMs - computeMs
      sums.linkMs += (timings[i + 1]?.arrivedAtMs ?? receivedAtMs) - sentAtMs
    })
  }

  get means(): MeasuredStep {
    const mean = (sum: number) => sum / this.#steps
    return {
      steps: this.#steps,
      sequences: this.#steps === 0 ? 0 : mean(this.#sequences),
      contextTokens: this.#steps === 0 ? 0 : mean(this.#contextTokens),
      stages: this.#sums.map(({ computeMs, waitMs }) => ({
        computeMs: mean(computeMs),
        waitMs: mean(waitMs)
      })),
      linksMs: this.#sums.length > 1 ? this.#sums.map(({ linkMs }) => mean(linkMs)) : []
    }
  }
}
