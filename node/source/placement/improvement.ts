import { weightBytes } from '../../../models/runtime/memory.ts'
import type { PlannedStage } from '../../api.ts'
import type { Predicted, StagePlan } from '../../plan/index.ts'
import type { AnswerTokens } from '../pipeline/source-session.ts'
import { ALIKE_SHARE } from './known-times.ts'
import { stageLoadMs } from './loading-times.ts'
import { isSamePlaced, type Placed, placedOf } from './places.ts'
import { behindCached, isPrescribed, type PlacementNeeds, type Planning, requestMsOf } from './planning.ts'
import { predictAnswer, predictPlacedRate } from './prediction.ts'

/** A better plan must save that share of a request's time: predictions are not more exact than that. */
export const MIN_GAIN = 0.2
/** The same where answers have measured what there is: what was learned from them is of the same devices. */
const TRIAL_GAIN = 0.06
/** The same where they have measured the other one as well. */
const KNOWN_GAIN = ALIKE_SHARE
/** Requests like this one that are expected to come on the new deployment, to each of its slots where it serves many. */
const EXPECTED_REQUESTS = 10
/** Reserving and starting stages elsewhere, before their layers are loaded. */
const START_MS = 500

/** The deployment of a model as it is now. */
interface Current {
  stages: readonly PlannedStage[]
  slots: number
  microBatches: number
  contextTokens: number
  /** Tokens of the prompt that its KV caches hold. @default 0 */
  cachedTokens?: number
  /** Tokens of each other conversation that they hold, those first that were used last. @default none */
  heldBeside?: readonly number[]
}

/**
 * True when the devices and links there are now allow a placement that saves more than moving there costs: a device has
 * joined, or a link or a device has turned slow or fast. What is in the KV caches has to be computed again there: of this
 * request's conversation, and of as many others as requests are expected, each of which may come back to one.
 */
export async function worthMoving(
  planning: Planning,
  whole: PlacementNeeds & { avoid?: ReadonlySet<string> },
  { stages, slots, microBatches, contextTokens, cachedTokens = 0, heldBeside = [] }: Current
): Promise<boolean> {
  if (isPrescribed(whole)) return false
  const needs = behindCached(whole, cachedTokens)
  const placed = { needs, stages, batch: slots, microBatches }
  const currentMs =
    needs.objective === 'latency'
      ? latencyMs(needs, predictAnswer(planning, placed))
      : shareMs(needs, predictPlacedRate(planning, placed))
  if (currentMs === undefined) return false
  // What the new placement would be made without.
  const options = {
    accept: (peerId: string) => needs.avoid?.has(peerId) !== true,
    room: { slots, contextTokens }
  }
  const found = await planning.solve(planning.scenario(needs, options))
  if (!found.feasible) return false
  const times = planning.knownTimes(needs, needs.objective === 'latency' ? 1 : slots, options)
  const measuredMs = times?.measuredMs({ stages, microBatches })
  const best = times?.bestOf(found)
  const better = best?.plan ?? found
  const { predicted } = better
  const betterMs =
    best?.ms ??
    (needs.objective === 'latency'
      ? requestMsOf(predicted, needs.newTokens)
      : shareMs(needs, predicted.tokensPerSecond)!)
  const hereMs = measuredMs ?? currentMs
  const savedMs = hereMs - betterMs
  const gain = measuredMs === undefined ? MIN_GAIN : best?.isMeasured ? KNOWN_GAIN : TRIAL_GAIN
  if (savedMs < gain * hereMs) return false
  const next = better.stages.map(placedOf)
  const ttftMs = (needs: PlacementNeeds) => predictAnswer(planning, { needs, stages: next })?.ttftMs ?? 0
  const othersMs = recomputedMs(planning, whole, next, heldBeside)
  const rebuildMs = (cachedTokens === 0 ? 0 : ttftMs(whole) - ttftMs(needs)) + othersMs
  const requests = EXPECTED_REQUESTS * (needs.objective === 'latency' ? 1 : slots)
  return requests * savedMs > movingMs(planning, needs, stages, better.stages) + rebuildMs
}

/**
 * What it takes to compute conversations again on other stages, which come back to find nothing there: of as many as requests are
 * expected, each of which may be one's next turn.
 *
 * @param heldBeside tokens of each, those first that were used last
 */
export function recomputedMs(
  planning: Planning,
  needs: PlacementNeeds,
  stages: readonly Placed[],
  heldBeside: readonly number[]
): number {
  const others = heldBeside.slice(0, EXPECTED_REQUESTS - 1)
  const longest = Math.max(1, ...others)
  // In parts of the longest one's: each snapshot of a large mesh takes its time.
  const parts = others.reduce((sum, tokens) => sum + tokens / longest, 0)
  if (parts === 0) return 0
  const asked = { ...needs, cachedTokens: 0, promptTokens: longest }
  return parts * (predictAnswer(planning, { needs: asked, stages })?.ttftMs ?? 0)
}

/** True when the model fits on the devices there are now but those to avoid, once `stages` have given their memory back. */
export async function fitsElsewhere(
  planning: Planning,
  needs: PlacementNeeds & { avoid: ReadonlySet<string> },
  stages: readonly PlannedStage[]
): Promise<boolean> {
  if (needs.placement.method !== undefined) return false
  const accept = (peerId: string) => !needs.avoid.has(peerId)
  return (await planning.solve(planning.scenario({ ...needs, replaced: stages }, { accept }))).feasible
}

/** True when the model fits on the devices there are now, each with all the memory that it gives to stages. */
export async function fitsAtAll(planning: Planning, needs: PlacementNeeds): Promise<boolean> {
  const result = await planning.solve(planning.scenario(needs, { memory: 'budget' }))
  if (result.feasible || result.apart === undefined) return result.feasible
  return (await planning.solve(planning.scenario(needs, { memory: 'budget', relayed: true }))).feasible
}

/** What one request takes. */
function latencyMs(
  { newTokens }: PlacementNeeds,
  predicted: Pick<Predicted, 'ttftMs' | 'tpotMs' | 'speculatedTpotMs'> | undefined
): number | undefined {
  return predicted && requestMsOf(predicted, newTokens)
}

/** What one of many requests takes of the deployment's time. */
function shareMs({ newTokens }: PlacementNeeds, tokensPerSecond: number | undefined): number | undefined {
  return tokensPerSecond && (1000 * newTokens) / tokensPerSecond
}

/**
 * True when the tokens that are still to come, on the devices but `without`, would make up for placing the model again
 * and computing the KV caches of what there is, which every answer waits for.
 *
 * @param now `answers`: those under way; `stepMs`: what a step takes, of all of them together
 */
export async function worthLeaving(
  planning: Planning,
  needs: PlacementNeeds,
  without: ReadonlySet<string>,
  { answers, stepMs }: { answers: readonly AnswerTokens[]; stepMs: number }
): Promise<boolean> {
  // What the present deployment holds is free again when it is left.
  const scenario = planning.scenario(needs, { accept: id => !without.has(id), memory: 'budget' })
  const other = await planning.solve(scenario)
  if (!other.feasible) return false
  const { ttftMs, tpotMs } = other.predicted
  let savedMs = 0
  let movedMs = START_MS
  for (const { tokens, leftTokens } of answers) {
    savedMs += leftTokens * (stepMs - tpotMs)
    movedMs += ttftMs + tokens * tpotMs
  }
  return savedMs > 2 * answers.length * movedMs
}

/** Time until the slowest of the stages that are new has its weights, as placements of the model have taken of what is expected. */
export function movingMs(
  planning: Planning,
  needs: PlacementNeeds,
  stages: readonly PlannedStage[],
  next: readonly StagePlan[]
): number {
  const { loadMs, besideMs } = expectedMoving(planning, needs, stages, next)
  return planning.loads.factorOf(needs.model.id) * loadMs + besideMs
}

/** What that time is made of, before anything was learned of it. */
export interface ExpectedMoving {
  /** Fetching and loading. */
  loadMs: number
  /** What it takes longer for what this device does beside it. */
  besideMs: number
}

export function expectedMoving(
  planning: Planning,
  { model }: PlacementNeeds,
  stages: readonly PlannedStage[],
  next: readonly StagePlan[]
): ExpectedMoving {
  const own = planning.candidates().source.record
  const { links } = planning
  const each = next.map(stage => {
    if (stages.some(held => isSamePlaced(held, placedOf(stage)))) return { loadMs: 0, allMs: 0 }
    const {
      device,
      layers: [start, end]
    } = stage
    const record = planning.candidate(device)?.record
    const held = record?.models.find(({ id }) => id === model.id)?.layers ?? []
    let fetchedBytes = 0
    for (let layer = start; layer < end; layer++) {
      if (held.some(([from, to]) => from <= layer && layer < to)) continue
      fetchedBytes += weightBytes(model.manifest, [layer, layer + 1])
    }
    const link = links.find(({ from, to }) => from === own.peerId && to === device)
    const fetchMs = link === undefined ? 0 : (8 * fetchedBytes) / (link.mbps * 1000)
    const ms = stageLoadMs(model, placedOf(stage), { device: record, own })
    const hereMs = device === own.peerId ? planning.ownLoads.msOf(model.id, ms) : ms
    return { loadMs: fetchMs + ms, allMs: fetchMs + hereMs }
  })
  const loadMs = Math.max(...each.map(stage => stage.loadMs))
  return { loadMs, besideMs: Math.max(...each.map(({ allMs }) => allMs)) - loadMs }
}
