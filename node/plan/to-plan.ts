/** Turns a placement and a bound into the printed result. */
import { price, priceParts, valueMs } from './cost.ts'
import type { Placement } from './latency.ts'
import { placeOf } from './places.ts'
import type { Method, Plan, Problem, Refusal, Segment, StagePlan } from './problem.ts'
import { speculatedTpotMs } from './speculation.ts'

/** A gap up to this is called optimal. */
const OPTIMAL_GAP = 1e-9

export function toStages(problem: Problem, segments: readonly Segment[]): StagePlan[] {
  return segments.map(({ device, start, end }) => ({
    ...placeOf(problem.devices[device]!),
    layers: [start, end]
  }))
}

/** The inverse of `toStages`; a place that is not in the problem becomes -1, which `violation` refuses. */
export function toSegments(problem: Problem, stages: readonly StagePlan[]): Segment[] {
  return stages.map(({ device, processor, layers: [start, end] }) => ({
    device: problem.devices.findIndex(place => place.id === device && place.processor === processor),
    start,
    end
  }))
}

/**
 * (value - bound) / bound. A bound within the planner's resolution of the value counts as equal to it; a
 * bound of zero proves nothing of a larger value: Infinity.
 */
export function gapOf(value: number, lowerBoundMs: number): number {
  if (value <= lowerBoundMs * (1 + OPTIMAL_GAP)) return 0
  return lowerBoundMs > 0 ? (value - lowerBoundMs) / lowerBoundMs : Number.POSITIVE_INFINITY
}

/** Prices a placement and sets it beside a bound that was computed without it. */
export function toPlan(
  problem: Problem,
  method: Method,
  placement: Omit<Placement, 'valueMs'>,
  lowerBoundMs: number,
  solveMs: number
): Plan {
  const { segments, batch, microBatches } = placement
  const priced = price(problem, segments, batch, microBatches)
  const value = valueMs(problem, priced, batch)
  const gap = gapOf(value, lowerBoundMs)
  const speculated = speculatedTpotMs(problem, segments)
  const { tpotMs, ttftMs, requestMs, tokensPerSecond, bubbleTokensPerSecond } = priced
  return {
    feasible: true,
    objective: problem.objective,
    method,
    stages: toStages(problem, segments),
    batch,
    microBatches,
    predicted: {
      tpotMs,
      ttftMs,
      requestMs,
      tokensPerSecond,
      bubbleTokensPerSecond,
      ...(speculated !== undefined && { speculatedTpotMs: speculated }),
      ...priceParts(problem, segments, 1)
    },
    lowerBoundMs: gap === 0 ? value : lowerBoundMs,
    gap,
    optimal: gap <= OPTIMAL_GAP,
    solveMs,
    left: []
  }
}

export function toRefusal(
  { objective }: Problem,
  method: Method,
  { reason, apart }: Pick<Refusal, 'reason' | 'apart'>,
  solveMs: number
): Refusal {
  return { feasible: false, objective, method, reason, ...(apart && { apart }), solveMs }
}
