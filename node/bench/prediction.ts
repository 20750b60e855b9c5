import type { MeshState, PlannedStage, Strategy } from '../api.ts'
import { MAX_BATCH, PLAN_BUDGET_MS } from '../constants.ts'
import { price } from '../plan/cost.ts'
import { type Method, type Problem, parseScenario, plan, type ScenarioInput } from '../plan/index.ts'
import { toSegments } from '../plan/to-plan.ts'

/** The mesh as the planner sees it, with all that its devices offer: what else they hold now is idle. */
export function problemOf(scenario: ScenarioInput, mesh: MeshState, cloud: string | null): Problem {
  const records = new Map([mesh.self, ...mesh.peers].map(record => [record.peerId, record]))
  const budgetOf = (id: string, processor?: string) => {
    const record = records.get(id)
    const named = record?.processors?.find(({ kind, memory }) => kind === processor && memory !== undefined)
    return (named?.memory ?? record?.memory)?.budgetBytes
  }
  return parseScenario({
    ...scenario,
    ...(cloud !== null && { cloud }),
    devices: scenario.devices.map(device =>
      'processors' in device
        ? {
            ...device,
            processors: device.processors.map(each => ({
              ...each,
              memoryBytes: budgetOf(device.id, each.id) ?? each.memoryBytes
            }))
          }
        : { ...device, memoryBytes: budgetOf(device.id) ?? device.memoryBytes }
    )
  })
}

/** The device that decodes fastest by its own measurement, the source aside; null where the source is alone. */
export function fastestPeer({ devices, source, profiles }: ScenarioInput): string | null {
  const others = devices.filter(({ id }) => id !== source)
  // The paper's methods take a device for its first processor.
  const firstOf = (device: (typeof devices)[number]) =>
    'processors' in device ? device.processors[0]! : device
  const decodeMs = (device: (typeof devices)[number]) =>
    profiles[firstOf(device).profile]?.decoder?.decodeMs ?? Number.POSITIVE_INFINITY
  const bytes = (device: (typeof devices)[number]) => firstOf(device).memoryBytes
  const [fastest] = others.sort((a, b) => decodeMs(a) - decodeMs(b) || bytes(b) - bytes(a))
  return fastest?.id ?? null
}

/** Why a method has no plan for so many sequences; undefined where it has one. */
export function refusalOf(problem: Problem, method: Method, batch: number): string | undefined {
  const workload = { ...problem.workload, batch: { min: batch, max: batch } }
  const now = () => performance.now()
  const result = plan({ ...problem, workload }, { method, now, budgetMs: PLAN_BUDGET_MS, explain: false })
  return result.feasible ? undefined : result.reason
}

/** The most sequences for which a method finds a plan, at least 1. */
export function largestBatch(problem: Problem, method: Method): number {
  let [largest, tooLarge] = [1, MAX_BATCH + 1]
  while (tooLarge - largest > 1) {
    const batch = (largest + tooLarge) >> 1
    if (refusalOf(problem, method, batch) === undefined) largest = batch
    else tooLarge = batch
  }
  return largest
}

export interface RunningPlan {
  stages: readonly PlannedStage[]
  batch: number
  microBatches: number
  strategy: Strategy | null
}

/** What the cost model says of a plan that runs: tokens a second of all its sequences, and the time of each one's. */
export function predictRate(
  problem: Problem,
  { stages, batch, microBatches, strategy }: RunningPlan
): { tpotMs: number; tokensPerSecond: number } {
  const segments = toSegments(
    problem,
    stages.map(({ peerId, processor, layers }) => ({
      device: peerId,
      ...(processor !== undefined && { processor }),
      layers
    }))
  )
  const priced = price(problem, segments, batch, microBatches)
  const tokensPerSecond = strategy === 'bubble' ? priced.bubbleTokensPerSecond : priced.tokensPerSecond
  return { tpotMs: (1000 * batch) / tokensPerSecond, tokensPerSecond }
}
