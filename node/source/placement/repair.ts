import { logger } from '../../../models/log.ts'
import { leaseBytes } from '../../../models/runtime/memory.ts'
import type { GenerateEvent, PlannedStage, Predicted } from '../../api.ts'
import { StageLostError } from '../../errors.ts'
import { bitsClassOf } from '../../record-processors.ts'
import { placesOf } from './candidate.ts'
import { type DeployComponents, lanesFor } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import type { HeldStage } from './held-stage.ts'
import { MIN_GAIN, movingMs } from './improvement.ts'
import { stagePlanOf } from './places.ts'
import type { PlacementNeeds, Planning } from './planning.ts'
import { predictAnswer } from './prediction.ts'
import { OfferRefusedError } from './recruit.ts'

const log = logger('edgeshard:plan')

/** A substitute that takes so much longer at most is as fast as another one. */
const AS_FAST_SHARE = 0.02

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
  const { lostStage: at } = deployment
  if (at === undefined) return { done: false, planMs: 0 }
  const { found, planMs } = await recruitSubstitute({ planning, recruiter }, deployment, at, request, {
    signal,
    emit
  })
  if (found === undefined) return { done: false, planMs }
  return { done: await install(deployment, at, found, request), planMs }
}

/** A stage that is loaded to take the place of another one, and what the deployment with it should take. */
export interface Substitute {
  held: HeldStage
  predicted: Predicted
}

/** Finds the device that is to have stage `at` from now on, if any is worth it, and has it load the layers. */
export async function recruitSubstitute(
  { planning, recruiter }: Pick<DeployComponents, 'planning' | 'recruiter'>,
  deployment: Deployment,
  at: number,
  request: RepairRequest,
  { signal, emit }: { signal: AbortSignal; emit: (event: GenerateEvent) => void }
): Promise<{ found: Substitute | undefined; planMs: number }> {
  const { slots, contextTokens } = deployment
  const startMs = planning.now()
  const substitute = await substituteFor(planning, deployment, at, request)
  const planMs = planning.now() - startMs
  const { model, requestId } = request
  if (substitute === undefined) {
    log
      .of(requestId)
      .debug('no device takes the place of another one; the model is placed anew', { ms: planMs })
    return { found: undefined, planMs }
  }
  const { stage, predicted } = substitute
  log
    .of(requestId)
    .debug('a device takes the place of another one', { peerId: stage.peerId, name: stage.name, ms: planMs })
  const { id: modelId, manifest } = model
  const stages = deployment.plan.stages.with(at, stage)
  try {
    const [held] = await recruiter.recruit(
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
    return { found: { held: held!, predicted }, planMs }
  } catch (error) {
    return passOver(request, error, { found: undefined, planMs })
  }
}

/**
 * Puts a substitute in the place of stage `at`. Call when no session is open.
 *
 * @returns false where a neighbour is gone as well, or the deployment was taken off its devices
 */
export async function install(
  deployment: Deployment,
  at: number,
  { held, predicted }: Substitute,
  request: Pick<RepairRequest, 'requestId'>
): Promise<boolean> {
  try {
    await deployment.substitute(at, held, predicted)
    return true
  } catch (error) {
    return passOver(request, error, false)
  }
}

/** @throws what is no fault of a substitute */
function passOver<T>({ requestId }: Pick<RepairRequest, 'requestId'>, error: unknown, instead: T): T {
  if (!(error instanceof OfferRefusedError || error instanceof StageLostError)) throw error
  log.of(requestId).passOver('the substitute cannot be used; the model is placed anew')(error)
  return instead
}

/**
 * The stage as the best of the devices that have no part in the plan would have it; undefined where there is none, or the model
 * is better placed anew.
 */
export async function substituteFor(
  planning: Planning,
  { plan: { stages }, slots, contextTokens }: Pick<Deployment, 'plan' | 'slots' | 'contextTokens'>,
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
    .peers.filter(({ record: { peerId } }) => !taken.has(peerId) && !request.avoid.has(peerId))
    .flatMap(candidate => placesOf(candidate, request.model.id))
    .filter(({ memoryBytes }) => memoryBytes >= bytes)
    .flatMap(({ record, processor }) => {
      const { peerId, name } = record
      const bitsClass = bitsClassOf(record, request.model.id, processor)
      const { layers, weightBytes } = stages[at]!
      const stage = {
        ...{ peerId, name, layers, weightBytes },
        ...(processor !== undefined && { processor }),
        ...(bitsClass !== undefined && { bitsClass })
      }
      const predicted = predictAnswer(planning, { needs: request, stages: stages.with(at, stage) })
      return predicted === undefined ? [] : [{ stage, predicted, ms: left(predicted) }]
    })
    .sort((a, b) => a.ms - b.ms)
  const [fastest] = options
  if (fastest === undefined) return undefined
  // The same tokens are promised within a class: one that is as fast is taken before the others.
  const asFast = options.filter(({ ms }) => ms <= (1 + AS_FAST_SHARE) * fastest.ms)
  const best = asFast.find(({ stage }) => stage.bitsClass === stages[at]!.bitsClass) ?? fastest
  const accept = (peerId: string) => !request.avoid.has(peerId)
  const scenario = planning.scenario(request, { accept, memory: 'budget' })
  const anew = await planning.solve(scenario)
  const anewMs = anew.feasible
    ? left(anew.predicted) + movingMs(planning, request, stages, anew.stages)
    : Number.POSITIVE_INFINITY
  const inPlaceMs = best.ms + movingMs(planning, request, stages, [stagePlanOf(best.stage)])
  return anewMs < (1 - MIN_GAIN) * inPlaceMs ? undefined : best
}
