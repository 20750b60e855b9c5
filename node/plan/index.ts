/**
 * Planning: which devices, which layers on each.
 *
 * @packageDocumentation
 *
 * @example
 * ```ts
 * import { readFileSync } from 'node:fs'
 * import { parseScenario, plan } from 'edgeshard/plan'
 *
 * const problem = parseScenario(JSON.parse(readFileSync('home.json', 'utf8')))
 * const result = plan(problem, { now: () => performance.now(), budgetMs: 2000 })
 * if (result.feasible) console.log(result.predicted.tpotMs, result.stages)
 * else console.error(result.reason)
 * ```
 */

import { type Baseline, baseline, type Outcome } from './baselines.ts'
import { price, priceParts } from './cost.ts'
import { explain } from './explain.ts'
import { placedForGuesses, plansForGuesses } from './guessing.ts'
import { type Placement, planLatency, type Solution } from './latency.ts'
import { overlappedTtftMs } from './overlap.ts'
import { placeOf } from './places.ts'
import {
  type LeftOut,
  type Link,
  METHODS,
  type Method,
  type Plan,
  type Predicted,
  type Problem,
  type Refusal,
  type Segment,
  type StagePlan,
  type StepParts
} from './problem.ts'
import { remedies } from './remedies.ts'
import { apartPairs, violation, whyInfeasible } from './rules.ts'
import { speculatedTpotMs } from './speculation.ts'
import { planThroughput } from './throughput.ts'
import { toPlan, toRefusal, toSegments } from './to-plan.ts'

export { ScenarioError } from './errors.ts'
export type * from './problem.ts'
export { parseScenario, type Scenario, type ScenarioInput, scenarioSchema } from './scenario.ts'
export { METHODS }

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

const DEFAULT_BUDGET_MS = 2000
/** Share of the budget for placements with guesses: these need no proof. */
const GUESSES_SHARE = 0.4
/** Stands for a link that is not there, where it is asked what one would change. */
const LAST_RESORT: Link = { mbps: 0.001, delayMs: 1e6 }

/** The placement a method chooses, or why it has none. */
export function plan(problem: Problem, options: PlanOptions = {}): Plan | Refusal {
  const method = options.method ?? 'edgeshard'
  const now = options.now ?? (() => 0)
  const startMs = now()
  const solution = solveProblem(problem, shareOf(problem, options))
  const outcome =
    method === 'edgeshard'
      ? ours(problem, solution, { ...options, budgetMs: budgetOf(options) - (now() - startMs) })
      : runBaseline(problem, method, options)
  return resultOf(problem, method, outcome, solution, options, now() - startMs)
}

/** Every method on one problem, `edgeshard` first; the bound is worked out once. Others take of each device its first processor. */
export function compare(problem: Problem, options: PlanOptions = {}): (Plan | Refusal)[] {
  const now = options.now ?? (() => 0)
  const startMs = now()
  const solution = solveProblem(problem, shareOf(problem, options))
  const solvedMs = now()
  const leftMs = budgetOf(options) - (solvedMs - startMs)
  return METHODS.map(method => {
    if (method === 'edgeshard') {
      return resultOf(
        problem,
        method,
        ours(problem, solution, { ...options, budgetMs: leftMs }),
        solution,
        options,
        solvedMs - startMs
      )
    }
    const beforeMs = now()
    const outcome = runBaseline(problem, method, options)
    return resultOf(problem, method, outcome, solution, options, now() - beforeMs)
  })
}

/**
 * Any placement beside the bound, which is worked out without it: how far a plan from elsewhere is from the
 * best. The run (`batch`, `microBatches`) is taken as given.
 */
export function assess(
  problem: Problem,
  stages: readonly StagePlan[],
  run: { readonly batch: number; readonly microBatches: number },
  options: PlanOptions = {}
): Plan | Refusal {
  const now = options.now ?? (() => 0)
  const startMs = now()
  const { lowerBoundMs } = solveProblem(problem, options)
  const method = options.method ?? 'edgeshard'
  const segments = toSegments(problem, stages)
  const broken = violation(problem, segments, run.batch)
  if (broken !== undefined) return toRefusal(problem, method, broken, now() - startMs)
  return toPlan(problem, method, { segments, ...run }, lowerBoundMs, now() - startMs)
}

/**
 * Whether a placement that is there already keeps to memory, privacy and the links that there are; false too when a
 * device is not in the problem.
 */
export function isAllowed(problem: Problem, stages: readonly StagePlan[], batch = 1): boolean {
  const segments = toSegments(problem, stages)
  return segments.every(({ device }) => device >= 0) && violation(problem, segments, batch) === undefined
}

/**
 * What a placement that is there already takes now, part by part; undefined when one of its devices is not in the
 * problem, or neighbours have no link. The parts are of a step of `batch` sequences, one by default.
 */
export function predict(
  problem: Problem,
  stages: readonly StagePlan[],
  batch = 1
): (Pick<Predicted, 'ttftMs' | 'tpotMs' | 'speculatedTpotMs'> & StepParts) | undefined {
  const segments = toSegments(problem, stages)
  if (!isThere(problem, segments)) return undefined
  const { ttftMs, tpotMs } = price(problem, segments, 1, 1)
  const speculated = speculatedTpotMs(problem, segments)
  return {
    ttftMs,
    tpotMs,
    ...(speculated !== undefined && { speculatedTpotMs: speculated }),
    ...priceParts(problem, segments, batch)
  }
}

/**
 * Milliseconds to the first token of a placement that is there already, where a prompt's chunks of so many tokens follow each other
 * from stage to stage (`ttftMs` adds up what the whole prompt takes each); undefined as for `predict`.
 */
export function predictFirstToken(
  problem: Problem,
  stages: readonly StagePlan[],
  chunkTokens: number
): number | undefined {
  const segments = toSegments(problem, stages)
  return isThere(problem, segments) ? overlappedTtftMs(problem, segments, chunkTokens) : undefined
}

/**
 * Tokens a second of a placement that is there already; undefined when one of its devices is not in the problem, or
 * neighbours have no link.
 */
export function predictRate(
  problem: Problem,
  stages: readonly StagePlan[],
  { batch, microBatches }: { readonly batch: number; readonly microBatches: number }
): number | undefined {
  const segments = toSegments(problem, stages)
  if (!isThere(problem, segments)) return undefined
  return price(problem, segments, batch, microBatches).tokensPerSecond
}

function isThere(problem: Problem, segments: readonly Segment[]): boolean {
  return segments.every(({ device }) => device >= 0) && apartPairs(problem, segments).length === 0
}

function budgetOf({ budgetMs = DEFAULT_BUDGET_MS }: PlanOptions): number {
  return budgetMs
}

/** The time for the placement with the shortest step: the rest of it is for those that are better with guesses. */
function shareOf(problem: Problem, options: PlanOptions): PlanOptions {
  const share = plansForGuesses(problem) ? 1 - GUESSES_SHARE : 1
  return { ...options, budgetMs: share * budgetOf(options) }
}

function solveProblem(problem: Problem, options: PlanOptions): Solution {
  const now = options.now ?? (() => 0)
  const endMs = now() + budgetOf(options)
  const expired = (): boolean => now() > endMs
  return problem.objective === 'throughput' ? planThroughput(problem, expired) : planLatency(problem, expired)
}

function ours(problem: Problem, { best, lowerBoundMs }: Solution, options: PlanOptions): Outcome {
  const now = options.now ?? (() => 0)
  const endMs = now() + budgetOf(options)
  if (best !== undefined) return { placement: placedForGuesses(problem, best, () => now() > endMs) }
  const apart = whatLinksPrevent(problem, options)
  if (apart.length > 0) {
    const pairs = apart.map(([a, b]) => `${a} and ${b}`).join(', ')
    return { reason: `${pairs} cannot reach each other, and no plan does without that`, apart }
  }
  const why = whyInfeasible(problem, problem.workload.batch.min)
  if (lowerBoundMs === Number.POSITIVE_INFINITY) return { reason: why }
  return { reason: `no plan found, and none ruled out: ${why}` }
}

/** The pairs whose missing links are why there is no plan: between them the best plan with all links would hand on layers. */
function whatLinksPrevent(problem: Problem, options: PlanOptions): [string, string][] {
  const isSparse = problem.links.some((row, from) => row.some(({ mbps }, to) => from !== to && mbps === 0))
  if (!isSparse) return []
  // So slow that a plan takes no more of them than it must.
  const links = problem.links.map(row => row.map(link => (link.mbps === 0 ? LAST_RESORT : link)))
  const { best } = solveProblem({ ...problem, links }, options)
  return best === undefined ? [] : apartPairs(problem, best.segments)
}

function runBaseline(problem: Problem, method: Baseline, options: PlanOptions): Outcome {
  return baseline(problem, method, part => solveProblem(part, options))
}

function resultOf(
  problem: Problem,
  method: Method,
  outcome: Outcome,
  { lowerBoundMs }: Solution,
  options: PlanOptions,
  solveMs: number
): Plan | Refusal {
  const isExplained = options.explain !== false
  const now = options.now ?? (() => 0)
  const endMs = now() + budgetOf(options)
  const expired = () => now() > endMs
  const solve = (part: Problem): Solution => solveProblem(part, { ...options, budgetMs: endMs - now() })
  const place = (part: Problem): Placement | undefined => {
    const { best } = solve(part)
    return best && placedForGuesses(part, best, expired)
  }
  if ('reason' in outcome) {
    const refused = toRefusal(problem, method, outcome, solveMs)
    if (!isExplained || method !== 'edgeshard' || refused.apart !== undefined) return refused
    const advice = remedies(problem, part => solve(part).best !== undefined, expired)
    return { ...refused, ...(advice !== undefined && { advice }) }
  }
  const found = toPlan(problem, method, outcome.placement, lowerBoundMs, solveMs)
  if (!isExplained) return found
  if (method !== 'edgeshard') return { ...found, left: notUsed(problem, found) }
  return { ...found, ...explain(problem, outcome.placement, found.optimal, place, expired) }
}

function notUsed(problem: Problem, { method, stages }: Plan): LeftOut[] {
  const used = new Set(toSegments(problem, stages).map(({ device }) => device))
  const left = problem.devices.filter((_, place) => !used.has(place))
  return left.map(place => ({ ...placeOf(place), reason: `${method} gives it no layers` }))
}
