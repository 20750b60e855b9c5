import type { PlannedStage, Predicted } from '../../api.ts'
import { type Problem, parseScenario, predict, predictRate, type Stage } from '../../plan/index.ts'
import type { MeasuredStep } from '../pipeline/measured.ts'
import { type PlacementNeeds, type PlanningComponents, scenarioFor } from './planning.ts'

interface Placed {
  needs: PlacementNeeds
  stages: readonly PlannedStage[]
}

/** What an answer on a placement should take by what is known now; undefined when one of its devices is not. */
export function predictAnswer(components: PlanningComponents, placed: Placed): Predicted | undefined {
  return predictWith(components, placed, { corrected: true, batch: 1 })
}

/** Corrects the cost model by what an answer took. */
export function learnFrom(components: PlanningComponents, placed: Placed, measured: MeasuredStep): void {
  const batch = Math.max(1, Math.round(measured.sequences))
  const expected = predictWith(components, placed, { corrected: false, batch })
  if (expected === undefined) return
  const { source, peers } = components.candidates()
  const modelId = placed.needs.model.id
  const stages = placed.stages.map(({ peerId }) => {
    const known = [source, ...peers].find(({ record }) => record.peerId === peerId)
    return { peerId, modelId, borrowed: known?.record.profiles[modelId] === undefined }
  })
  components.corrections.observe({ stages, expected, measured, batch })
}

/** Tokens a second that a placement for many sequences should draw, as it is run. */
export function predictPlacedRate(
  components: PlanningComponents,
  placed: Placed & { batch: number; microBatches: number }
): number | undefined {
  const { problem, stages } = asProblem(components, placed, true)
  return predictRate(problem, stages, placed)
}

function predictWith(
  components: PlanningComponents,
  placed: Placed,
  { corrected, batch }: { corrected: boolean; batch: number }
): Predicted | undefined {
  const { problem, stages } = asProblem(components, placed, corrected)
  return predict(problem, stages, batch)
}

function asProblem(
  components: PlanningComponents,
  { needs, stages }: Placed,
  corrected: boolean
): { problem: Problem; stages: Stage[] } {
  // The device that a method was to use may be gone; what ran is what counts.
  const { cloud: _, ...placement } = needs.placement
  return {
    problem: parseScenario(scenarioFor(components, { ...needs, placement }, { corrected })),
    stages: stages.map(({ peerId, layers }) => ({ device: peerId, layers }))
  }
}
