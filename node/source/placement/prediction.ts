import type { PlannedStage, Predicted } from '../../api.ts'
import { type Problem, parseScenario, predict, predictRate, type StagePlan } from '../../plan/index.ts'
import type { MeasuredStep } from '../pipeline/measured.ts'
import type { PlacementNeeds, Planning } from './planning.ts'

interface Placed {
  needs: PlacementNeeds
  stages: readonly PlannedStage[]
}

/** What an answer on a deployment should take by what is known now; undefined when one of its devices is not. */
export function predictAnswer(planning: Planning, placed: Placed): Predicted | undefined {
  return predictWith(planning, placed, { corrected: true, batch: 1 })
}

/** Corrects the cost model by what an answer took. */
export function learnFrom(planning: Planning, placed: Placed, measured: MeasuredStep): void {
  const batch = Math.max(1, Math.round(measured.sequences))
  // An answer may end long before its limit, and its steps took what they took at its own context.
  const needs = {
    ...placed.needs,
    cachedTokens: Math.round(measured.contextTokens),
    promptTokens: 1,
    newTokens: 1
  }
  const expected = predictWith(planning, { ...placed, needs }, { corrected: false, batch })
  if (expected === undefined) return
  const modelId = placed.needs.model.id
  const stages = placed.stages.map(({ peerId }) => {
    const known = planning.candidate(peerId)
    return { peerId, modelId, borrowed: known?.record.profiles[modelId] === undefined }
  })
  planning.corrections.observe({ stages, expected, measured, batch })
}

/** Tokens a second that a deployment for many sequences should draw, as it is run. */
export function predictPlacedRate(
  planning: Planning,
  placed: Placed & { batch: number; microBatches: number }
): number | undefined {
  const { problem, stages } = asProblem(planning, placed, true)
  return predictRate(problem, stages, placed)
}

function predictWith(
  planning: Planning,
  placed: Placed,
  { corrected, batch }: { corrected: boolean; batch: number }
): Predicted | undefined {
  const { problem, stages } = asProblem(planning, placed, corrected)
  return predict(problem, stages, batch)
}

function asProblem(
  planning: Planning,
  { needs, stages }: Placed,
  corrected: boolean
): { problem: Problem; stages: StagePlan[] } {
  // The device that a method was to use may be gone; what ran is what counts.
  const { cloud: _, ...placement } = needs.placement
  return {
    problem: parseScenario(planning.scenario({ ...needs, placement }, { corrected })),
    stages: stages.map(({ peerId, layers }) => ({ device: peerId, layers }))
  }
}
