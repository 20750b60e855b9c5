import { weightBytes } from '../../models/memory.ts'
import type { Sampling } from '../../models/sampler.ts'
import { DEPLOYMENT_IDLE_MS, MAX_WAITING_REQUESTS } from '../constants.ts'
import { BusyError, StageLostError } from '../errors.ts'
import type { Plan, ScenarioInput } from '../plan/index.ts'
import type { DeploymentState, GenerateEvent, PlannedStage, Predicted } from '../types.ts'
import type { PromptableModel } from './catalog.ts'
import { Deployment, type DeploymentComponents } from './deployment.ts'
import { EventQueue } from './event-queue.ts'
import type { Pipeline } from './pipeline.ts'
import { place } from './place.ts'
import {
  contextTokensFor,
  type PlacementNeeds,
  type PlanningComponents,
  planFor,
  scenarioFor
} from './planning.ts'
import { type RecruitComponents, recruit } from './recruit.ts'

export interface DeploymentRequest extends PlacementNeeds {
  model: PromptableModel
  sampling: Sampling
  /** Peers that failed this request: taken only where it cannot be placed without them. */
  avoid: ReadonlySet<string>
  /** The loss that made this placement necessary. */
  lost: StageLostError | undefined
}

export interface DeploymentsComponents extends RecruitComponents, DeploymentComponents, PlanningComponents {
  /** Makes sure that this device has timed the model's layers. */
  profile: (model: PromptableModel) => Promise<void>
}

/** A session on a placed model, for the time of one request. */
export interface Placement {
  plan: { stages: PlannedStage[] }
  predicted: Predicted
  pipeline: Pipeline
  /** Ends the session and lets the next request have its turn. */
  giveBack(options: { broken: boolean }): Promise<void>
}

interface Slot {
  deployment?: Deployment
  /** Settles when the request before has given the slot back. */
  turn: Promise<void>
  waiting: number
  idle?: NodeJS.Timeout
}

type Emit = (event: GenerateEvent) => void

/**
 * The models that this source has placed on devices, one placement a model: kept warm for the next prompt, planned
 * anew when a request needs another one or a device took its memory back. Requests to one model take turns.
 */
export class Deployments {
  readonly #components: DeploymentsComponents
  readonly #slots = new Map<string, Slot>()

  constructor(components: DeploymentsComponents) {
    this.#components = components
  }

  /**
   * Places the model, or finds it placed, and opens a session; yields what happens until then.
   *
   * @throws {PlanRefusedError} {StageLostError} {BusyError} when too many requests wait
   */
  async *acquire(
    request: DeploymentRequest,
    { signal }: { signal: AbortSignal }
  ): AsyncGenerator<GenerateEvent, Placement> {
    const slot = this.#slots.get(request.model.id) ?? { turn: Promise.resolve(), waiting: 0 }
    this.#slots.set(request.model.id, slot)
    const giveTurnBack = await takeTurn(slot, signal)
    const events = new EventQueue<GenerateEvent>()
    try {
      clearTimeout(slot.idle)
      const opening = this.#open(slot, request, signal, event => events.push(event)).finally(() =>
        events.end()
      )
      // Awaited below; without this a rejection before that would count as unhandled.
      opening.catch(() => {})
      yield* events
      const { deployment, pipeline } = await opening
      return {
        plan: deployment.plan,
        predicted: deployment.predicted,
        pipeline,
        giveBack: async ({ broken }) => {
          await pipeline.close()
          if (broken) await this.#drop(slot)
          slot.idle = setTimeout(() => void this.#drop(slot), DEPLOYMENT_IDLE_MS).unref()
          giveTurnBack()
        }
      }
    } catch (error) {
      giveTurnBack()
      throw error
    }
  }

  /** What is placed now. */
  state(): DeploymentState[] {
    return [...this.#slots].flatMap(([modelId, { deployment }]) =>
      deployment === undefined ? [] : [{ modelId, plan: deployment.plan, predicted: deployment.predicted }]
    )
  }

  /** The mesh as the planner sees it for a request of these needs, with every link measured. */
  async scenario(
    needs: PlacementNeeds & { model: PromptableModel },
    signal: AbortSignal
  ): Promise<ScenarioInput> {
    const { candidates, measureLinks, profile } = this.#components
    await profile(needs.model)
    const peerIds = candidates().peers.map(({ record }) => record.peerId)
    await measureLinks(peerIds, signal)
    return scenarioFor(this.#components, needs)
  }

  /** An idle lease of this node's own had to make room: its deployment is over. */
  async evicted(leaseId: string): Promise<void> {
    const slot = [...this.#slots.values()].find(({ deployment }) => deployment?.holds(leaseId))
    if (slot !== undefined) await this.#drop(slot)
  }

  /** Gives every lease back. */
  async close(): Promise<void> {
    await Promise.all([...this.#slots.values()].map(slot => this.#drop(slot)))
  }

  async #open(
    slot: Slot,
    request: DeploymentRequest,
    signal: AbortSignal,
    emit: Emit
  ): Promise<{ deployment: Deployment; pipeline: Pipeline }> {
    const { promptTokens, newTokens, objective, privacy, sampling } = request
    const needed = { contextTokens: promptTokens + newTokens, objective, privacy }
    if (slot.deployment?.serves(needed)) {
      try {
        return { deployment: slot.deployment, pipeline: await slot.deployment.open({ sampling, signal }) }
      } catch (error) {
        // A stage was evicted while it was idle, or is gone: place the model again.
        if (!(error instanceof StageLostError)) throw error
      }
    }
    await this.#drop(slot)
    await this.#components.profile(request.model)
    const deployment = await this.#deploy(slot, request, signal, emit)
    slot.deployment = deployment
    return { deployment, pipeline: await deployment.open({ sampling, signal }) }
  }

  async #deploy(
    slot: Slot,
    request: DeploymentRequest,
    signal: AbortSignal,
    emit: Emit
  ): Promise<Deployment> {
    const { model, objective, privacy, avoid, lost } = request
    const { id: modelId, manifest } = model
    const contextTokens = contextTokensFor(request)
    const { plan, recruited } = await place({
      plan: async history => {
        const { plan, waitMs } = await planFor(
          this.#components,
          request,
          { ...history, avoid, lost },
          { signal }
        )
        return { ...plan, waitMs, stages: plan.stages.map(stage => this.#named(stage, model)) }
      },
      recruit: ({ stages, waitMs }) =>
        recruit(
          this.#components,
          { modelId, manifest, stages, contextTokens, waitMs },
          { signal, onProgress: emit }
        )
    })
    const { ttftMs, tpotMs } = plan.predicted
    const init = {
      manifest,
      predicted: { ttftMs, tpotMs },
      stages: recruited,
      contextTokens,
      objective,
      privacy
    }
    return new Deployment(this.#components, init, () => {
      if (slot.deployment?.ended) delete slot.deployment
    })
  }

  async #drop(slot: Slot): Promise<void> {
    const { deployment } = slot
    clearTimeout(slot.idle)
    delete slot.deployment
    await deployment?.release()
  }

  #named({ device, layers }: Plan['stages'][number], { manifest }: PromptableModel): PlannedStage {
    const { source, peers } = this.#components.candidates()
    const record = [source, ...peers].find(({ record }) => record.peerId === device)?.record
    return {
      peerId: device,
      name: record?.name ?? device,
      layers,
      weightBytes: weightBytes(manifest, layers)
    }
  }
}

/** Waits until the requests before have given the slot back; the returned function does so for this one. */
async function takeTurn(slot: Slot, signal: AbortSignal): Promise<() => void> {
  if (slot.waiting >= MAX_WAITING_REQUESTS) {
    throw new BusyError(`${slot.waiting} requests wait for this model already; try again later`)
  }
  const before = slot.turn
  const mine = Promise.withResolvers<void>()
  slot.turn = before.then(() => mine.promise)
  slot.waiting++
  const giveBack = () => {
    slot.waiting--
    mine.resolve()
  }
  const aborted = Promise.withResolvers<never>()
  const onAbort = () => aborted.reject(signal.reason)
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    signal.throwIfAborted()
    await Promise.race([before, aborted.promise])
    return giveBack
  } catch (error) {
    giveBack()
    throw error
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
