import type { DeploymentState, ScenarioNeeds } from '../api.ts'
import type { Plan } from '../plan/problem.ts'

/** How good a plan is, as the planner has proven it. */
export function certificateOf({ optimal, objective, predicted, lowerBoundMs, gap }: Plan): string {
  const { tpotMs, ttftMs, tokensPerSecond } = predicted
  const value =
    objective === 'throughput'
      ? `${tokensPerSecond.toFixed(1)} tokens a second`
      : `${tpotMs.toFixed(1)} ms a token after ${ttftMs.toFixed(0)} ms`
  if (optimal) return `The best plan for this mesh: ${value}. It is proven that none is better.`
  const percent = (100 * gap).toFixed(gap < 0.1 ? 1 : 0)
  return `Planned: ${value}. No plan is better than ${lowerBoundMs.toFixed(1)} ms; this one is within ${percent} % of that.`
}

/** What a plan is asked for: the model that is loaded, the last of several, and else the node's default. */
export function needsOf(
  deployments: readonly Pick<DeploymentState, 'modelId' | 'objective'>[]
): ScenarioNeeds {
  const last = deployments.at(-1)
  return last === undefined ? {} : { model: last.modelId, objective: last.objective }
}

/** True where a plan is what computes already: the same devices, and processors of theirs, with the same layers. */
export function isInForce(
  {
    stages
  }: {
    stages: readonly {
      device: string
      processor?: string | undefined
      layers: readonly [number, number]
    }[]
  },
  deployments: readonly Pick<DeploymentState, 'plan'>[]
): boolean {
  return deployments.some(
    ({ plan }) =>
      plan.stages.length === stages.length &&
      plan.stages.every(
        ({ peerId, processor, layers }, i) =>
          peerId === stages[i]!.device &&
          processor === stages[i]!.processor &&
          layers.every((layer, end) => layer === stages[i]!.layers[end])
      )
  )
}
