import { logger } from '../../../models/log.ts'
import { leaseBytes } from '../../../models/runtime/memory.ts'
import type { GenerateEvent, PlannedStage, Predicted } from '../../api.ts'
import { StageLostError } from '../../errors.ts'
import { type DeployComponents, lanesFor } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import { MIN_GAIN, movingMs } from './improvement.ts'
import type { PlacementNeeds, Planning } from './planning.ts'
import { predictAnswer } from './prediction.ts'
import { OfferRefusedError } from './recruit.ts'

const log = logger('edgeshard:plan')

export interface RepairRequest extends PlacementNeeds {
  /** Tokens of the answer that are drawn already. */
  known: readonly number[]
  /** Peers that failed this request. */
  avoid: ReadonlySet<string>
}

/**
 * Puts another device in the place of a lost one, where there is one with the memory and no other deployment would finish
 * the answer clearly sooner. The stages behind it keep their KV caches; it and those before it compute theirs again, for the
 * hidden states that it needs come out of them.
 *
 * When a plan a, b, c has lost b to d, c keeps its KV cache of the answer's tokens so far (`keepTokens`), stages from
 * index 2 on are intact (`intactFrom`), a and d begin with the first token again, and d hands on nothing of those that c
 * has (`withholdTokens`).
 *
 * @returns `done`: false where the model has to be placed anew; `planMs`: the time that choosing took
 */
export async function repair(
  { planning, recruiter }: Pick<DeployComponents, 'planning' | 'recruiter'>,
  deployment: Deployment,
  request: RepairRequest,
  { signal, emit }: { signal: AbortSignal; emit: (event: GenerateEvent) => void }
): Promise<{ done: boolean; planMs: number }> {
  const { lostStage: at, slots, contextTokens } = deployment
  if (at === undefined) return { done: false, planMs: 0 }
  const startMs = planning.now()
  const substitute = await substituteFor(planning, deployment, at, request)
  const planMs = planning.now() - startMs
  const { model, requestId } = request
  if (substitute === undefined) {
    log
      .of(requestId)
      .debug('no device takes the place of the lost one; the model is placed anew', { ms: planMs })
    return { done: false, planMs }
  }
  const { stage, predicted } = substitute
  log
    .of(requestId)
    .debug('a device takes the place of the lost one', { peerId: stage.peerId, name: stage.name, ms: planMs })
  const { id: modelId, manifest } = model
  const stages = deployment.plan.stages.with(at, stage)
  try {
    const [recruited] = await recruiter.recruit(
      {
        modelId,
        manifest,
        stages,
        only: stage,
        slots,
        contextTokens,
        lanes: lanesFor(request, slots),
        waitMs: 0,
        requestId
      },
      { signal, onProgress: emit }
    )
    await deployment.substitute(at, recruited!, predicted)
    return { done: true, planMs }
  } catch (error) {
    if (error instanceof OfferRefusedError || error instanceof StageLostError) {
      log.of(requestId).passOver('the substitute cannot be used; the model is placed anew')(error)
      return { done: false, planMs }
    }
    throw error
  }
}

/** The stage as the best of the devices that have no part in the plan would have it. */
async function substituteFor(
  planning: Planning,
  { plan: { stages }, slots, contextTokens }: Deployment,
  at: number,
  request: RepairRequest
): Promise<{ stage: PlannedStage; predicted: Predicted } | undefined> {
  // Who hands on what to whom is the new plan's to say.
  if (stages[at]?.via !== undefined || stages[at - 1]?.via !== undefined) return undefined
  const { layers } = stages[at]!
  const { manifest } = request.model
  const { weightBytes, ownBytes } = leaseBytes(manifest, layers, { slots, maxTokens: contextTokens })
  const bytes = weightBytes + ownBytes
  const taken = new Set(stages.map(({ peerId }) => peerId))
  const leftTokens = request.newTokens - request.known.length
  const left = ({ ttftMs, tpotMs }: { ttftMs: number; tpotMs: number }) => ttftMs + leftTokens * tpotMs
  const options = planning
    .candidates()
    .peers.filter(({ record, memoryBytes }) => {
      return memoryBytes >= bytes && !taken.has(record.peerId) && !request.avoid.has(record.peerId)
    })
    .flatMap(({ record: { peerId, name } }) => {
      const stage = { ...stages[at]!, peerId, name }
      const predicted = predictAnswer(planning, { needs: request, stages: stages.with(at, stage) })
      return predicted === undefined ? [] : [{ stage, predicted, ms: left(predicted) }]
    })
    .sort((a, b) => a.ms - b.ms)
  const [best] = options
  if (best === undefined) return undefined
  const accept = (peerId: string) => !request.avoid.has(peerId)
  const scenario = planning.scenario(request, { accept, memory: 'budget' })
  const anew = await planning.solve(scenario)
  const anewMs = anew.feasible
    ? left(anew.predicted) + movingMs(planning, request, stages, anew.stages)
    : Number.POSITIVE_INFINITY
  const inPlaceMs = best.ms + movingMs(planning, request, stages, [{ device: best.stage.peerId, layers }])
  return anewMs < (1 - MIN_GAIN) * inPlaceMs ? undefined : best
}
