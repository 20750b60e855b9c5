/** What the formulas say of a plan beside what was observed when it was played. */

import { price } from './cost.ts'
import type { Plan, Predicted, Problem, Segment, Speculation } from './problem.ts'
import { type Observed, type Run, type Strategy, simulate } from './simulate.ts'
import { type ObservedSpeculation, simulateSpeculation } from './simulate-speculation.ts'
import { speculatedMs, wayOf, windowOf } from './speculation.ts'
import { toSegments } from './to-plan.ts'

export interface Compared {
  /** Time between a sequence's tokens with the whole batch running: T(b) and m * max(b) combined. */
  readonly predicted: { readonly tpotMs: number; readonly tokensPerSecond: number }
  readonly observed: Observed
}

export interface SimulationReport {
  readonly method: Plan['method']
  readonly objective: Plan['objective']
  readonly stages: Plan['stages']
  readonly batch: number
  readonly microBatches: number
  /** Prediction for the plan, one sequence alone. */
  readonly predicted: Predicted
  readonly noBubble: Compared
  readonly bubble: Compared
  /** One sequence alone that speculates as the workload says; absent where it does not. */
  readonly speculation?: ComparedGuesses
}

export interface ComparedGuesses {
  readonly predicted: { readonly tpotMs: number }
  readonly observed: ObservedSpeculation
}

/** Plays a plan with both strategies; a latency plan with the one sequence it is made for. */
export function simulatePlan(problem: Problem, plan: Plan): SimulationReport {
  const { method, objective, stages, predicted } = plan
  const segments = toSegments(problem, stages)
  const batch = objective === 'latency' ? 1 : plan.batch
  const { microBatches } = plan
  const { stepMs, busiestMs, cycleMs } = price(problem, segments, batch, microBatches)
  const play = (strategy: Strategy, tpotMs: number): Compared => {
    const run: Run = { batch, microBatches, strategy }
    return {
      predicted: { tpotMs, tokensPerSecond: (1000 * batch) / tpotMs },
      observed: simulate(problem, segments, run)
    }
  }
  const { speculation } = problem.workload
  return {
    method,
    objective,
    stages,
    batch,
    microBatches,
    predicted,
    noBubble: play('noBubble', cycleMs),
    bubble: play('bubble', stepMs + (microBatches - 1) * busiestMs),
    ...(speculation !== undefined && { speculation: compareGuesses(problem, segments, speculation) })
  }
}

/** One sequence with guesses ahead, by the formula and played. */
function compareGuesses(
  problem: Problem,
  segments: readonly Segment[],
  speculation: Speculation
): ComparedGuesses {
  const way = wayOf(problem, segments, speculation.draftMs)
  // One window is played, and not the mean of two.
  const { acceptance, window = windowOf(way, acceptance) } = speculation
  return {
    predicted: { tpotMs: speculatedMs(way, { acceptance, window }) },
    observed: simulateSpeculation(problem, segments, speculation)
  }
}
