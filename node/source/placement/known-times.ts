import {
  isAllowed,
  type Plan,
  parseScenario,
  predict,
  predictRate,
  type ScenarioInput
} from '../../plan/index.ts'
import type { Problem, StagePlan } from '../../plan/problem.ts'
import { placedOf, stagePlanOf } from './places.ts'
import type { PlacementNeeds, Planning } from './planning.ts'
import { type Cut, type TriedFor, triedFor } from './tried-plans.ts'

/** Two measured placements within that of each other are alike: neither is left for the other. */
export const ALIKE_SHARE = 0.03

export interface Known {
  plan: Plan
  /** What a request takes there, or its share of the time where many are served. */
  ms: number
  /** Answers have measured it; otherwise it is predicted. */
  isMeasured: boolean
}

export interface KnownInit {
  needs: PlacementNeeds
  /** The mesh with what answers have taught, and without. */
  scenario: ScenarioInput
  uncorrected: ScenarioInput
  /** Sequences at once. */
  batch: number
}

/** What the placements that answers have run on take by what was measured there. */
export class KnownTimes {
  readonly #tried: Planning['tried']
  readonly #needs: PlacementNeeds
  readonly #problem: Problem
  readonly #plain: Problem
  readonly #batch: number

  constructor({ tried }: Pick<Planning, 'tried'>, { needs, scenario, uncorrected, batch }: KnownInit) {
    this.#tried = tried
    this.#needs = needs
    this.#problem = parseScenario(scenario)
    this.#plain = parseScenario(uncorrected)
    this.#batch = batch
  }

  /** What a request takes on a placement, or its share of the time, in ms; undefined where answers have not measured it. */
  measuredMs(cut: Cut): number | undefined {
    const ratio = this.#tried.ratioOf(this.#of, this.#isLatency ? { ...cut, microBatches: 1 } : cut)
    return ratio && this.#msAt(cut, ratio)
  }

  /**
   * The best of what the planner has found and what answers have measured: a placement that was tried and is slower than one
   * before it is left for that, whatever is predicted of it.
   */
  bestOf(plan: Plan): Known {
    const { stages, microBatches, predicted } = plan
    const cut = { stages: stages.map(placedOf), microBatches }
    const measuredMs = this.measuredMs(cut)
    const predictedMs = this.#isLatency
      ? predicted.ttftMs + (this.#needs.newTokens - 1) * predicted.tpotMs
      : (1000 * this.#needs.newTokens) / predicted.tokensPerSecond
    let best: Known = { plan, ms: measuredMs ?? predictedMs, isMeasured: measuredMs !== undefined }
    for (const { cut, ratio } of this.#tried.known(this.#of)) {
      const ms = this.#msAt(cut, ratio)
      if (ms === undefined || ms >= best.ms * (1 - ALIKE_SHARE)) continue
      if (isAllowed(this.#problem, placed(cut), this.#batch))
        best = { plan: this.#planOf(plan, cut), ms, isMeasured: true }
    }
    return best
  }

  get #of(): TriedFor {
    return triedFor(this.#needs)
  }

  get #isLatency(): boolean {
    return this.#needs.objective === 'latency'
  }

  #msAt(cut: Cut, ratio: number): number | undefined {
    const { newTokens } = this.#needs
    const stages = placed(cut)
    if (!this.#isLatency) {
      const rate = predictRate(this.#plain, stages, { batch: this.#batch, microBatches: cut.microBatches })
      return rate && (1000 * newTokens * ratio) / rate
    }
    const first = predict(this.#problem, stages)
    const plain = predict(this.#plain, stages)
    return first && plain && first.ttftMs + (newTokens - 1) * ratio * plain.tpotMs
  }

  /** A placement that was tried, as a plan: not the best by the formulas, which it contradicts. */
  #planOf(plan: Plan, cut: Cut): Plan {
    const stages = placed(cut)
    const microBatches = this.#isLatency ? plan.microBatches : cut.microBatches
    const predicted = predict(this.#problem, stages)!
    const requestMs = predicted.ttftMs + (this.#needs.newTokens - 1) * predicted.tpotMs
    const tokensPerSecond = predictRate(this.#problem, stages, { batch: this.#batch, microBatches })!
    const all = { ...plan.predicted, ...predicted, requestMs, tokensPerSecond }
    return { ...plan, stages, microBatches, predicted: all, optimal: false }
  }
}

function placed({ stages }: Cut): StagePlan[] {
  return stages.map(stagePlanOf)
}
