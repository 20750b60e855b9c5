import type { Objective } from '../../api.ts'
import { type Placed, placeKey } from './places.ts'

/** A placement, and how its sequences follow each other. */
export interface Cut {
  stages: readonly Placed[]
  microBatches: number
}

/** What was placed for what. */
export interface TriedFor {
  modelId: string
  objective: Objective
  /** Whether its answers are computed to the bit, which takes longer: the two say nothing of each other. @default false */
  exact?: boolean
}

/** What a request is placed for. */
export function triedFor({
  model,
  objective,
  exact = false
}: {
  model: { id: string }
  objective: Objective
  exact?: boolean | undefined
}): TriedFor {
  return { modelId: model.id, objective, exact }
}

/** Answers that a figure is drawn from, and how long each counts: as long as those that correct the cost model. */
const SAMPLES = 5
const SAMPLE_TERM_MS = 10 * 60_000
/** One answer is chance. */
const LEAST_SAMPLES = 2
/** Placements that are kept of each model and what it is placed for; what was run longest ago goes first. */
const MAX_PLANS = 16
/** What is beyond says that something broke, and nothing of the placement. */
const RATIOS = [0.02, 50] as const

interface Tried extends Cut {
  samples: { ratio: number; atMs: number }[]
}

/**
 * The placements that answers have run on, and how many times as long as by the uncorrected cost model a step took on each. What
 * was measured of a placement is better known than what is predicted of another one, however well that has learned.
 */
export class TriedPlans {
  /** The one that was run last is the last. */
  readonly #tried = new Map<string, Map<string, Tried>>()
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  /** @param ratio of what a step took and what it should have taken by the uncorrected cost model */
  note(of: TriedFor, { stages, microBatches }: Cut, ratio: number): void {
    if (!(ratio > RATIOS[0] && ratio < RATIOS[1])) return
    const plans = this.#tried.get(keyOf(of)) ?? new Map<string, Tried>()
    this.#tried.set(keyOf(of), plans)
    const key = cutKey({ stages, microBatches })
    const { samples = [] } = plans.get(key) ?? {}
    const kept = [...samples, { ratio, atMs: this.#now() }].slice(-SAMPLES)
    plans.delete(key)
    plans.set(key, { stages, microBatches, samples: kept })
    if (plans.size > MAX_PLANS) plans.delete(plans.keys().next().value!)
  }

  /** The median of the last answers; undefined where too few have run there lately. */
  ratioOf(of: TriedFor, cut: Cut): number | undefined {
    const tried = this.#tried.get(keyOf(of))?.get(cutKey(cut))
    return tried && this.#quantileOf(tried, 0.5)
  }

  /**
   * Those of which a ratio is known, each with one that a quarter of its answers exceeded: what is left for one of them by
   * its luck alone would be come back to by the next one's.
   */
  known(of: TriedFor): { cut: Cut; ratio: number }[] {
    const plans = [...(this.#tried.get(keyOf(of))?.values() ?? [])]
    return plans.flatMap(tried => {
      const { stages, microBatches } = tried
      const ratio = this.#quantileOf(tried, 0.75)
      return ratio === undefined ? [] : [{ cut: { stages, microBatches }, ratio }]
    })
  }

  /** The value that a share `q` of the samples is no larger than. */
  #quantileOf({ samples }: Tried, q: number): number | undefined {
    const nowMs = this.#now()
    const ratios = samples.filter(({ atMs }) => nowMs - atMs < SAMPLE_TERM_MS).map(({ ratio }) => ratio)
    if (ratios.length < LEAST_SAMPLES) return undefined
    return ratios.sort((a, b) => a - b)[Math.ceil(q * ratios.length) - 1]
  }
}

function keyOf({ modelId, objective, exact = false }: TriedFor): string {
  return `${objective} ${exact} ${modelId}`
}

function cutKey({ stages, microBatches }: Cut): string {
  return `${microBatches} ${stages.map(stage => `${placeKey(stage)} ${stage.layers}`).join(' ')}`
}
