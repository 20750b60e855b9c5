/** Latency planning: the cheapest placement for one sequence, by the chosen metric. */
import type { Pricing } from './chain.ts'
import type { Problem, Segment } from './problem.ts'
import { solveAnywhere } from './solve.ts'

/** A placement, how it is run, and what is proven of every other. */
export interface Solution {
  readonly best: Placement | undefined
  /** No placement has a lower value; Infinity where none exists. Throughput: ms per token of the batch. */
  readonly lowerBoundMs: number
}

export interface Placement {
  readonly segments: readonly Segment[]
  readonly batch: number
  readonly microBatches: number
  readonly valueMs: number
}

/** What latency planning minimises: memory is reserved for the fixed batch, one sequence is timed. */
export function latencyPricing(problem: Problem): Pricing {
  return { kind: problem.metric, batch: problem.workload.batch.min }
}

export function planLatency(problem: Problem, expired: () => boolean): Solution {
  const limits = { target: Number.POSITIVE_INFINITY, expired }
  const { found, bound } = solveAnywhere(problem, latencyPricing(problem), limits)
  const batch = problem.workload.batch.min
  return {
    best: found && { segments: found.segments, batch, microBatches: 1, valueMs: found.costMs },
    lowerBoundMs: bound
  }
}
