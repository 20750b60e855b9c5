/**
 * Planning: which devices, which layers on each.
 *
 * @packageDocumentation
 *
 * @example
 * ```ts
 * import { parseScenario, plan } from './node/plan/index.ts'
 *
 * const answer = plan(parseScenario(scenario), { now: () => performance.now(), budgetMs: 2000 })
 * if (answer.feasible) for (const { device, layers } of answer.stages) recruit(device, layers)
 * else console.error(answer.reason)
 * ```
 */
import { price, valueMs } from './cost.ts'
import { exhaustive } from './exhaustive.ts'
import type { Method, Plan, Problem, Refusal, Stage } from './problem.ts'
import { whyInfeasible } from './rules.ts'

export { ScenarioError } from './errors.ts'
export type * from './problem.ts'
export { METHODS } from './problem.ts'
export { parseScenario, type Scenario, type ScenarioInput, scenarioSchema } from './scenario.ts'

export interface PlanOptions {
  /** @default 'edgeshard' */
  readonly method?: Method
  /** A clock in ms: without one, `budgetMs` is not kept and `solveMs` is 0. */
  readonly now?: () => number
  /** Time after which the best plan so far is returned with its proven gap. @default 2000 */
  readonly budgetMs?: number
  /** Explain devices left out, what binds and what would help, by planning again. @default true */
  readonly explain?: boolean
}

/** The best placement of a problem, or why there is none. */
export function plan(problem: Problem, options: PlanOptions = {}): Plan | Refusal {
  const now = options.now ?? (() => 0)
  const startMs = now()
  const { objective } = problem
  const method = options.method ?? 'edgeshard'
  const best = exhaustive(problem)
  if (best === undefined) {
    const reason = whyInfeasible(problem, problem.workload.batch.min)
    return { feasible: false, objective, method, reason, solveMs: now() - startMs }
  }
  const priced = price(problem, best.segments, best.batch, best.microBatches)
  const { tpotMs, ttftMs, requestMs, tokensPerSecond, bubbleTokensPerSecond } = priced
  const stages = best.segments.map(
    ({ device, start, end }): Stage => ({ device: problem.devices[device]?.id ?? '', layers: [start, end] })
  )
  return {
    feasible: true,
    objective,
    method,
    stages,
    batch: best.batch,
    microBatches: best.microBatches,
    predicted: { tpotMs, ttftMs, requestMs, tokensPerSecond, bubbleTokensPerSecond },
    lowerBoundMs: valueMs(problem, priced, best.batch),
    gap: 0,
    optimal: true,
    solveMs: now() - startMs,
    left: problem.devices
      .filter(({ id }) => !stages.some(stage => stage.device === id))
      .map(({ id }) => ({ device: id, reason: 'already at the optimum without it' }))
  }
}
