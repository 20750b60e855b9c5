import { leaseBytes } from '../../../models/runtime/memory.ts'
import type { Move, PlannedStage, Predicted } from '../../api.ts'
import { bitsClassOf } from '../../record-processors.ts'
import type { AnswerTokens } from '../pipeline/source-session.ts'
import { placesOf } from './candidate.ts'
import { plannedStages } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import { MIN_GAIN, movingMs, recomputedMs } from './improvement.ts'
import { isSamePlaced, placeKey, stagePlanOf } from './places.ts'
import type { PlacementNeeds, Planning } from './planning.ts'
import { predictAnswer, predictPlacedRate } from './prediction.ts'

/** A move must save so many times what it costs the answers under way. */
export const WORTH_FACTOR = 2
/** What it costs each of them at most: two tokens' time. */
const GAP_TOKENS = 2
/** What answers lose of the time in which others catch up on devices that both use: those have the lower turn. */
const CATCH_UP_SHARE = 0.25

/** A deployment that can be built up beside the one that there is, and why it should be. */
export interface NextPlan extends Pick<Move, 'predicted'> {
  stages: PlannedStage[]
  expected: Predicted
  /** A step there takes so many times what one takes now; with guesses ahead tokens come sooner than steps end. */
  stepFactor: number
  microBatches: number
}

interface Cut {
  stages: PlannedStage[]
  microBatches: number
}

interface Asked {
  answers: readonly AnswerTokens[]
  /** Devices that have no part in it: they are left, or drained. */
  without: ReadonlySet<string>
}

/**
 * The fastest deployment for which the devices have memory beside the one that there is: any cut of the free memory, any cut
 * of all memory that happens to fit beside, and the cut as it is with another device for one of its stages. Layers that a
 * device computes already are loaded there once for both.
 *
 * @returns undefined where none fits
 */
export async function planBeside(
  planning: Planning,
  needs: PlacementNeeds,
  deployment: Deployment,
  { answers, without }: Asked
): Promise<NextPlan | undefined> {
  const { stages, slots, contextTokens } = asPlaced(deployment)
  const cuts = [
    ...(needs.placement.method === undefined
      ? await solved(planning, needs, { stages, slots, contextTokens, without })
      : []),
    ...substituted(planning, needs.model.id, deployment, without)
  ]
  // Devices that are being drained count as well.
  const before = timesOf(planning, { ...needs, begun: true }, deployment.state, stages)
  const options = cuts
    .filter(({ stages: next }) => !isSame(stages, next) && fitsBeside(planning, needs, deployment, next))
    .flatMap(cut => {
      const expected = predictAnswer(planning, { needs, stages: cut.stages })
      const after = timesOf(planning, needs, { slots, microBatches: cut.microBatches }, cut.stages)
      return expected === undefined || after === undefined ? [] : [{ ...cut, expected, after }]
    })
    .sort((a, b) => a.after.tokenMs - b.after.tokenMs)
  const [best] = options
  if (best === undefined) return undefined
  const { after, ...next } = best
  // What runs on a device that is not known any more takes as long as it takes.
  const { tokenMs: beforeMs, stepMs } = before ?? after
  const { tokenMs: afterMs } = after
  const loadMs = movingMs(planning, needs, stages, next.stages.map(stagePlanOf))
  const slowestMs = Math.max(0, ...next.expected.stages.map(({ computeMs }) => computeMs))
  const tokens = answers.reduce((sum, answer) => sum + answer.tokens, 0)
  const catchUpMs = answers.length * next.expected.ttftMs + tokens * slowestMs
  const leftTokens = answers.reduce(
    (sum, answer) => sum + Math.max(0, answer.leftTokens - (loadMs + catchUpMs) / Math.max(1e-3, beforeMs)),
    0
  )
  const savedMs = leftTokens * (beforeMs - afterMs)
  // What other conversations have in KV caches stays behind.
  const othersMs = recomputedMs(planning, needs, next.stages, deployment.heldBeside())
  const costMs = GAP_TOKENS * answers.length * beforeMs + CATCH_UP_SHARE * catchUpMs + othersMs
  const stepFactor = after.stepMs / stepMs
  return { ...next, stepFactor, predicted: { beforeMs, afterMs, savedMs, costMs } }
}

/** Whether a move is worth it: predictions are not more exact than MIN_GAIN, and who moves for little moves back for little. */
export function isWorthIt({ predicted: { beforeMs, afterMs, savedMs, costMs } }: NextPlan): boolean {
  return beforeMs - afterMs >= MIN_GAIN * beforeMs && savedMs > WORTH_FACTOR * costMs
}

function asPlaced({ plan: { stages }, slots, contextTokens }: Deployment) {
  return { stages, slots, contextTokens }
}

async function solved(
  planning: Planning,
  needs: PlacementNeeds,
  {
    stages: replaced,
    without,
    ...room
  }: { stages: PlannedStage[]; without: ReadonlySet<string>; slots: number; contextTokens: number }
): Promise<Cut[]> {
  const accept = (peerId: string) => !without.has(peerId)
  const scenarios = [
    planning.scenario(needs, { accept, room }),
    planning.scenario({ ...needs, replaced }, { accept, room })
  ]
  const plans = await Promise.all(scenarios.map(scenario => planning.solve(scenario)))
  return plans.flatMap(plan =>
    plan.feasible
      ? [{ stages: plannedStages(planning, needs.model, plan), microBatches: plan.microBatches }]
      : []
  )
}

/** The cut as it is, with another device for one of its stages, or for the one that has to be left. */
function substituted(
  planning: Planning,
  modelId: string,
  deployment: Deployment,
  without: ReadonlySet<string>
): Cut[] {
  const { plan, state } = deployment
  const { stages } = plan
  if (stages.some(({ via }) => via !== undefined)) return []
  const source = stages[0]!.peerId
  const taken = new Set(stages.map(({ peerId }) => peerId))
  const leaving = stages.filter(({ peerId }) => without.has(peerId))
  if (leaving.length > 1) return []
  const others = planning
    .candidates()
    .peers.filter(({ record: { peerId } }) => !taken.has(peerId) && !without.has(peerId))
    .flatMap(candidate => placesOf(candidate, modelId))
  return stages.flatMap((stage, at) => {
    if (stage.peerId === source || (leaving.length > 0 && leaving[0] !== stage)) return []
    return others
      .filter(({ record: { peerId } }) => {
        const beside = [stages[at - 1], stages[at + 1] ?? stages[0]]
        return beside.every(each => each === undefined || !planning.isApart(each.peerId, peerId))
      })
      .map(({ record, processor }) => {
        const { peerId, name } = record
        const { layers, weightBytes } = stage
        const bitsClass = bitsClassOf(record, modelId, processor)
        const substitute = {
          ...{ peerId, name, layers, weightBytes },
          ...(processor !== undefined && { processor }),
          ...(bitsClass !== undefined && { bitsClass })
        }
        return { stages: stages.with(at, substitute), microBatches: state.microBatches }
      })
  })
}

/** Whether every device has the memory for its new stages without giving back the old ones. */
function fitsBeside(
  planning: Planning,
  { model }: PlacementNeeds,
  { plan, slots, contextTokens }: Deployment,
  next: readonly PlannedStage[]
): boolean {
  const bytes = new Map<string, number>()
  for (const stage of next) {
    const { layers } = stage
    const place = placeKey(stage)
    const cost = leaseBytes(model.manifest, layers, { slots, maxTokens: contextTokens })
    const isLoaded = plan.stages.some(held => isSamePlaced(held, stage))
    const own = cost.ownBytes + (isLoaded ? 0 : cost.weightBytes)
    bytes.set(place, (bytes.get(place) ?? 0) + own)
  }
  return next.every(stage => {
    const candidate = planning.candidate(stage.peerId)
    const places = candidate === undefined ? [] : placesOf(candidate, model.id)
    const place = places.find(({ processor }) => processor === stage.processor)
    return place !== undefined && place.memoryBytes >= bytes.get(placeKey(stage))!
  })
}

/** What a token of one sequence takes, with its guesses where it has any, and what a step does. */
function timesOf(
  planning: Planning,
  needs: PlacementNeeds,
  { slots, microBatches }: { slots: number; microBatches: number },
  stages: readonly PlannedStage[]
): { tokenMs: number; stepMs: number } | undefined {
  if (needs.objective === 'latency') {
    const predicted = predictAnswer(planning, { needs, stages })
    if (predicted === undefined) return undefined
    const { tpotMs, speculatedTpotMs = tpotMs } = predicted
    return { tokenMs: speculatedTpotMs, stepMs: tpotMs }
  }
  const rate = predictPlacedRate(planning, { needs, stages, batch: slots, microBatches })
  if (rate === undefined) return undefined
  const ms = (1000 * slots) / rate
  return { tokenMs: ms, stepMs: ms }
}

function isSame(one: readonly PlannedStage[], other: readonly PlannedStage[]): boolean {
  return one.length === other.length && one.every((stage, at) => isSamePlaced(stage, other[at]!))
}
