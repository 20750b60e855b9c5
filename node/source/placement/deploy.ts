import { logger } from '../../../models/log.ts'
import type { Manifest } from '../../../models/manifest.ts'
import { MAX_LANES } from '../../../models/onnx/lanes.ts'
import { hasState } from '../../../models/recurrence.ts'
import { weightBytes } from '../../../models/runtime/memory.ts'
import type { GenerateEvent, PlannedStage } from '../../api.ts'
import type { StageLostError } from '../../errors.ts'
import type { Plan } from '../../plan/index.ts'
import { bitsClassOf } from '../../record-processors.ts'
import { cutsOf } from '../pipeline/dropped-tokens.ts'
import { devicesOf } from '../request/request-log.ts'
import { Deployment, type DeploymentComponents, type DeploymentInit } from './deployment.ts'
import { expectedMoving } from './improvement.ts'
import { place } from './place.ts'
import { stagePlanOf } from './places.ts'
import type { PlacementNeeds, Planning } from './planning.ts'
import type { Recruiter } from './recruit.ts'

const log = logger('edgeshard:plan')

export interface DeployComponents extends DeploymentComponents {
  planning: Planning
  recruiter: Recruiter
}

export interface DeployRequest extends PlacementNeeds {
  /** Peers that failed this request: taken only where it cannot be placed without them. */
  avoid: ReadonlySet<string>
  /** The loss that made a new deployment necessary. */
  lost: StageLostError | undefined
  /** When the request came, by the planning's clock; absent: nobody waits for it from there on. */
  startedAtMs?: number | undefined
  /** It is refused where it would wait for answers to end, and others behind it. @default false */
  yields?: boolean | undefined
}

/** Memory that is given back may be said to be in use for so long: who yields waits in devices' lines for no more than that. */
const YIELDS_WAIT_MS = 1000

export interface DeployOptions extends Pick<DeploymentInit, 'onSlow'> {
  signal: AbortSignal
  emit: (event: GenerateEvent) => void
}

/**
 * Sequences that may have lanes of their own: those of exact answers, and of models with states, one each; others share one, and
 * a prompt that joins them has the second.
 */
export function lanesFor({ exact, model }: Pick<PlacementNeeds, 'exact' | 'model'>, slots: number): number {
  return Math.min(slots, exact || hasState(model.manifest.shape) ? MAX_LANES : 2)
}

/** A plan's stages as they are recruited. */
export function plannedStages(
  planning: Planning,
  { id, manifest }: { id: string; manifest: Manifest },
  { stages }: Pick<Plan, 'stages'>
): PlannedStage[] {
  return stages.map(({ device, processor, layers }, at) => {
    const next = stages[at + 1]?.device
    const apart = next !== undefined && planning.isApart(device, next)
    const record = planning.candidate(device)?.record
    const bitsClass = record && bitsClassOf(record, id, processor)
    return {
      peerId: device,
      name: record?.name ?? device,
      ...(processor !== undefined && { processor }),
      layers,
      weightBytes: weightBytes(manifest, layers),
      ...(apart && { via: stages[0]!.device }),
      ...(bitsClass !== undefined && { bitsClass })
    }
  })
}

/** A model that was placed. */
export interface DeployedAs {
  deployment: Deployment
  planMs: number
  /** What fetching and loading its stages was to take. */
  loadMs: number
  /** When its stages were asked for. */
  askedAtMs: number
}

/**
 * Places a model: plans, recruits, and plans again without an offer that was gone.
 *
 * @throws {PlanRefusedError} {StageLostError} {BusyError}
 */
export async function deploy(
  components: DeployComponents,
  request: DeployRequest,
  { signal, emit, onSlow }: DeployOptions
): Promise<DeployedAs> {
  const { planning, recruiter } = components
  const { now } = planning
  const { model, avoid, lost, placement, requestId } = request
  const { id: modelId, manifest } = model
  let planMs = 0
  let loadMs = 0
  let askedAtMs = now()
  const { plan: placed, recruited } = await place({
    plan: async history => {
      const startMs = now()
      const found = await planning.plan(request, { ...history, avoid, lost }, { signal })
      const ms = now() - startMs
      planMs += ms
      const stages = plannedStages(planning, model, found.plan)
      log.of(requestId).debug('planned', () => {
        const { ttftMs, tpotMs } = found.plan.predicted
        return { devices: devicesOf(stages), ttftMs, tpotMs, slots: found.slots, ms }
      })
      return { ...found, stages }
    },
    recruit: async ({ stages, slots, contextTokens, waitMs }) => {
      const { isFirst } = planning.ownLoads
      const expected = expectedMoving(planning, request, request.replaced ?? [], stages.map(stagePlanOf))
      loadMs = planning.loads.factorOf(modelId) * expected.loadMs + expected.besideMs
      askedAtMs = now()
      const recruited = await recruiter.recruit(
        {
          modelId,
          manifest,
          stages,
          slots,
          contextTokens,
          lanes: lanesFor(request, slots),
          waitMs: request.yields === true ? Math.min(waitMs, YIELDS_WAIT_MS) : waitMs,
          begun: request.begun,
          requestId
        },
        { signal, onProgress: emit }
      )
      // What waits for memory says nothing of loading.
      const tookMs = now() - askedAtMs - expected.besideMs
      if (waitMs === 0) planning.loads.note(modelId, expected.loadMs, tookMs, { isFirst })
      planning.ownLoads.placed()
      return recruited
    }
  })
  const { plan, slots, contextTokens } = placed
  const { ttftMs, tpotMs, stages, linksMs } = plan.predicted
  const deployment = new Deployment(components, {
    modelId,
    vocabSize: manifest.shape.vocabSize,
    hiddenSize: manifest.shape.hiddenSize,
    hasState: hasState(manifest.shape),
    mayCut: cutsOf(manifest.shape),
    predicted: { ttftMs, tpotMs, stages, linksMs },
    stages: recruited,
    contextTokens,
    slots,
    microBatches: Math.min(slots, placement.microBatches ?? plan.microBatches),
    strategy: placement.strategy ?? 'no-bubble',
    promptsFirst: request.objective === 'throughput',
    onSlow
  })
  return { deployment, planMs, loadMs, askedAtMs }
}
