import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import type { PlannedStage, Predicted } from '../../api.ts'
import { CONTRADICTION_EXCESS_MS, CONTRADICTION_FACTOR } from '../../constants.ts'
import {
  type Problem,
  parseScenario,
  predict,
  predictFirstToken,
  predictRate,
  type StagePlan
} from '../../plan/index.ts'
import { timesOn } from '../../record-processors.ts'
import type { ObservedStep } from '../pipeline/measured.ts'
import type { Candidate } from './candidate.ts'
import { turnsSaid } from './claims.ts'
import { ALONE_UP_TO, MIN_STEPS } from './corrections.ts'
import { stagePlanOf } from './places.ts'
import type { PlacementNeeds, Planning } from './planning.ts'
import { triedFor } from './tried-plans.ts'

interface Placed {
  needs: PlacementNeeds
  stages: readonly Pick<PlannedStage, 'peerId' | 'processor' | 'layers' | 'via'>[]
}

/**
 * What an answer on a deployment takes by what is known now, its prompt as if each stage waited for the whole of it: what plans are
 * compared by, and what deadlines hang on. Undefined when one of its devices is not known.
 */
export function predictAnswer(planning: Planning, placed: Placed): Predicted | undefined {
  return predictWith(planning, placed, { corrected: true, batch: 1 })
}

/** The same with a prompt whose chunks are on several stages at once, as they are: what people are told, and is measured. */
export function predictRunning(planning: Planning, placed: Placed): Predicted | undefined {
  const { problem, stages } = asProblem(planning, placed, true)
  const predicted = predict(problem, stages)
  const ttftMs = predictFirstToken(problem, stages, PREFILL_CHUNK_TOKENS)
  return predicted && ttftMs !== undefined ? { ...predicted, ttftMs } : undefined
}

/** A device whose figures cannot be true. */
export interface Contradicted {
  peerId: string
  /** What is wrong, for people. */
  reason: string
}

/** Share of a deployment's slots from which on a batch says what a full one takes. */
const LEAST_FULL = 0.8
/** A stage with less of the model's layers says little of what many would take a device that is held to a share. */
const RESTING_SHARE = 0.25
/** Doubted steps of an answer that are no accident of clocks. */
const MIN_DOUBTED = 3

/**
 * Corrects the cost model by what an answer took.
 *
 * @param guessed tokens were guessed ahead
 * @returns the devices whose figures contradict it
 */
export function learnFrom(
  planning: Planning,
  placed: { needs: PlacementNeeds; stages: readonly PlannedStage[]; slots?: number; microBatches?: number },
  measured: ObservedStep,
  guessed = false
): Contradicted[] {
  const batch = Math.max(1, Math.round(measured.sequences))
  // An answer may end long before its limit, and its steps took what they took at its own context.
  const needs = {
    ...placed.needs,
    cachedTokens: Math.round(measured.contextTokens),
    promptTokens: 1,
    newTokens: 1
  }
  const expected = predictWith(planning, { ...placed, needs }, { corrected: false, batch })
  if (expected === undefined) return []
  const modelId = placed.needs.model.id
  const sourceId = planning.candidates().source.record.peerId
  const known = placed.stages.flatMap(stage => {
    const record = planning.candidate(stage.peerId)?.record
    return record === undefined ? [] : [{ stage, record }]
  })
  const profiles = planning.believedProfiles(
    known.map(({ record, stage: { processor } }) => ({ record, processor })),
    placed.needs.model
  )
  const source = planning.candidates().source.record
  // As a scenario has it.
  const borrowedFrom = () => planning.ownTimes(placed.needs.model)
  const { manifest } = placed.needs.model
  const stages = known.map(({ record, stage: { processor, layers } }, i) => ({
    peerId: record.peerId,
    processor,
    modelId,
    borrowed: timesOn(record, modelId, processor) === undefined,
    exact: placed.needs.exact === true,
    own: record.peerId === sourceId,
    profile: profiles[i] ?? borrowedFrom(),
    turns: turnsSaid(record, source),
    rests:
      record.stageTimes?.frameMs !== undefined &&
      layers[1] - layers[0] < RESTING_SHARE * manifest.layers.length
  }))
  planning.corrections.observe({ stages, expected, measured, batch, guessed })
  if (!guessed) noteTried(planning, { ...placed, needs }, measured, expected.tpotMs)
  const peers = known.filter((_, i) => !stages[i]!.own)
  const last = peers.at(-1)?.stage
  const doubted =
    last === undefined || measured.doubted < MIN_DOUBTED
      ? []
      : [
          {
            peerId: last.peerId,
            reason: `the times that come back through ${last.name} (${last.peerId}) cannot be true: ${measured.doubt}; its speed is taken from what this node measures`
          }
        ]
  return [...doubted, ...peers.flatMap(({ record, stage }) => boasting(planning, record, stage, modelId))]
}

/** Takes note of what a placement took, where its answer ran alone, or its batch was nearly full. */
function noteTried(
  planning: Planning,
  { needs, stages, slots, microBatches }: Parameters<typeof learnFrom>[1],
  { steps, doubted, sequences, stepMs, underWay = 1 }: ObservedStep,
  expectedMs: number
): void {
  const { objective, placement } = needs
  if (steps + doubted < MIN_STEPS || placement.strategy === 'bubble') return
  const of = triedFor(needs)
  if (objective === 'latency') {
    const isAlone = sequences === 1 && underWay <= ALONE_UP_TO
    if (isAlone) planning.tried.note(of, { stages, microBatches: 1 }, stepMs / expectedMs)
    return
  }
  if (slots === undefined || microBatches === undefined || sequences * underWay < LEAST_FULL * slots) return
  const { problem, stages: placed } = asProblem(planning, { needs, stages }, false)
  const rate = predictRate(problem, placed, { batch: slots, microBatches })
  if (rate !== undefined) planning.tried.note(of, { stages, microBatches }, (stepMs * rate) / (1000 * slots))
}

/** A device that takes many times what it says of itself. */
function boasting(
  planning: Planning,
  record: Candidate['record'],
  { processor }: Pick<PlannedStage, 'processor'>,
  modelId: string
): Contradicted[] {
  const { peerId, name } = record
  const timed = { peerId, processor, modelId, borrowed: false }
  const claimedMs = timesOn(record, modelId, processor)?.decoder?.decodeMs
  const measuredMs = planning.corrections.profileOf(timed)?.decoder?.decodeMs
  const factor = planning.corrections.measuredFactor(timed)
  if (claimedMs === undefined || measuredMs === undefined || factor === undefined) return []
  const tookMs = factor * measuredMs
  if (tookMs < CONTRADICTION_FACTOR * claimedMs || tookMs < claimedMs + CONTRADICTION_EXCESS_MS) return []
  const [said, took] = [claimedMs, tookMs].map(ms => Number(ms.toPrecision(2)))
  const reason = `${name} (${peerId}) says that a layer takes it ${said} ms; answers took ${took} ms, and it is planned with these`
  return [{ peerId, reason }]
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
  const relayed = stages.some(({ via }) => via !== undefined)
  return {
    problem: parseScenario(planning.scenario({ ...needs, placement }, { corrected, relayed })),
    stages: stages.map(stagePlanOf)
  }
}
