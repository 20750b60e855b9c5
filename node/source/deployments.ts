import { weightBytes } from '../../models/memory.ts'
import {
  CONTEXT_STEP_TOKENS,
  DEPLOYMENT_IDLE_MS,
  MAX_REPLANS,
  MAX_WAITING_REQUESTS,
  WAIT_FOR_PEERS_MS
} from '../constants.ts'
import { PlanRefusedError, RequestError, StageLostError } from '../errors.ts'
import { type Plan, parseScenario, plan } from '../plan/index.ts'
import type { GenerateEvent, Objective, PlannedStage, Privacy } from '../types.ts'
import type { PromptableModel } from './catalog.ts'
import { Deployment, type DeploymentComponents } from './deployment.ts'
import { EventQueue } from './event-queue.ts'
import { OfferRefusedError, type RecruitComponents, recruit } from './recruit.ts'
import { type Candidate, snapshotScenario } from './scenario.ts'

export interface DeploymentRequest {
  model: PromptableModel
  promptTokens: number
  newTokens: number
  objective: Objective
  privacy: Privacy
}

export interface DeploymentsComponents extends RecruitComponents, DeploymentComponents {
  /** The devices as the directory knows them now. */
  candidates: () => { source: Candidate; peers: Candidate[] }
  /** Resolves when the set of connected peers changes, or after `ms`. */
  peersChanged: (ms: number, signal: AbortSignal) => Promise<void>
  /** Makes sure that this device has timed the model's layers. */
  profile: (model: PromptableModel) => Promise<void>
  now: () => number
}

/** A deployment for the time of one request. */
export type HeldDeployment = Pick<Deployment, 'plan' | 'predicted' | 'open'> & { giveBack(): void }

interface Slot {
  deployment?: Deployment
  /** Settles when the request before has given the slot back. */
  turn: Promise<void>
  waiting: number
  idle?: NodeJS.Timeout
}

/**
 * The models that this source has placed on devices, one placement a model: kept warm for the next prompt, planned
 * anew when a request needs another one. Requests to one model take turns.
 */
export class Deployments {
  readonly #components: DeploymentsComponents
  readonly #slots = new Map<string, Slot>()

  constructor(components: DeploymentsComponents) {
    this.#components = components
  }

  /**
   * A deployment that fits the request; yields what happens until it is ready.
   *
   * @throws {PlanRefusedError} {StageLostError} {RequestError} when too many requests wait
   */
  async *acquire(
    request: DeploymentRequest,
    { signal }: { signal: AbortSignal }
  ): AsyncGenerator<GenerateEvent, HeldDeployment> {
    const slot = this.#slots.get(request.model.id) ?? { turn: Promise.resolve(), waiting: 0 }
    this.#slots.set(request.model.id, slot)
    const giveBack = await takeTurn(slot, signal)
    const events = new EventQueue<GenerateEvent>()
    try {
      clearTimeout(slot.idle)
      const ready = this.#ready(slot, request, signal, event => events.push(event)).finally(() =>
        events.end()
      )
      // Read below; without this a rejection before that would count as unhandled.
      ready.catch(() => {})
      yield* events
      const deployment = await ready
      return {
        plan: deployment.plan,
        predicted: deployment.predicted,
        open: options => deployment.open(options),
        giveBack: () => {
          slot.idle = setTimeout(() => void this.#drop(slot), DEPLOYMENT_IDLE_MS).unref()
          giveBack()
        }
      }
    } catch (error) {
      giveBack()
      throw error
    }
  }

  /** Gives every lease back. */
  async close(): Promise<void> {
    await Promise.all([...this.#slots.values()].map(slot => this.#drop(slot)))
  }

  async #ready(
    slot: Slot,
    request: DeploymentRequest,
    signal: AbortSignal,
    emit: (event: GenerateEvent) => void
  ): Promise<Deployment> {
    const { contextLength } = request.model.manifest.shape
    const needed = request.promptTokens + request.newTokens
    const contextTokens = Math.min(
      contextLength,
      Math.ceil(needed / CONTEXT_STEP_TOKENS) * CONTEXT_STEP_TOKENS
    )
    const { objective, privacy } = request
    if (slot.deployment?.serves({ contextTokens: needed, objective, privacy })) return slot.deployment
    await this.#drop(slot)
    await this.#components.profile(request.model)
    slot.deployment = await this.#deploy(slot, request, contextTokens, signal, emit)
    return slot.deployment
  }

  async #deploy(
    slot: Slot,
    request: DeploymentRequest,
    contextTokens: number,
    signal: AbortSignal,
    emit: (event: GenerateEvent) => void
  ): Promise<Deployment> {
    const { model, objective, privacy } = request
    const refused = new Set<string>()
    let failure: Error | undefined
    for (let attempt = 0; ; attempt++) {
      const planned = await this.#plan(request, contextTokens, refused, signal, failure)
      const stages = planned.stages.map(stage => this.#stage(stage, model))
      const predicted = { ttftMs: planned.predicted.ttftMs, tpotMs: planned.predicted.tpotMs }
      try {
        const recruited = await recruit(
          this.#components,
          { modelId: model.id, manifest: model.manifest, stages, contextTokens },
          { signal, onProgress: emit }
        )
        const init = {
          modelId: model.id,
          manifest: model.manifest,
          predicted,
          contextTokens,
          objective,
          privacy
        }
        return new Deployment(this.#components, { ...init, stages: recruited }, () => {
          if (slot.deployment?.ended) delete slot.deployment
        })
      } catch (error) {
        if (
          !(error instanceof OfferRefusedError || error instanceof StageLostError) ||
          attempt >= MAX_REPLANS
        ) {
          throw error
        }
        // Another source was faster, or the peer is gone: what is left may still do.
        refused.add(error.peerId)
        failure = error
      }
    }
  }

  /** The planner's answer; before a refusal, idle deployments of other models make room and late peers get a chance. */
  async #plan(
    request: DeploymentRequest,
    contextTokens: number,
    refused: Set<string>,
    signal: AbortSignal,
    failure: Error | undefined
  ): Promise<Plan> {
    const { now, candidates, peersChanged } = this.#components
    const deadlineMs = now() + WAIT_FOR_PEERS_MS
    for (;;) {
      const { source, peers } = candidates()
      const scenario = snapshotScenario({
        modelId: request.model.id,
        modelName: request.model.name,
        manifest: request.model.manifest,
        source,
        peers: peers.filter(({ record }) => !refused.has(record.peerId)),
        promptTokens: request.promptTokens,
        newTokens: request.newTokens,
        contextTokens,
        objective: request.objective,
        privacy: request.privacy
      })
      const answer = plan(parseScenario(scenario), { now, explain: false })
      if (answer.feasible) return answer
      if (failure !== undefined) throw failure
      if (await this.#makeRoom(request.model.id)) continue
      const leftMs = deadlineMs - now()
      if (leftMs <= 0) {
        const alone = peers.length === 0 ? ' No peer was found; edgeshard peers shows who is connected.' : ''
        throw new PlanRefusedError(`${request.model.name} fits nowhere: ${answer.reason}.${alone}`)
      }
      await peersChanged(leftMs, signal)
    }
  }

  /** Releases the deployments of other models that no request uses; true when there was one. */
  async #makeRoom(modelId: string): Promise<boolean> {
    const idle = [...this.#slots].filter(
      ([id, slot]) => id !== modelId && slot.deployment && slot.waiting === 0
    )
    await Promise.all(idle.map(([, slot]) => this.#drop(slot)))
    return idle.length > 0
  }

  async #drop(slot: Slot): Promise<void> {
    const { deployment } = slot
    clearTimeout(slot.idle)
    delete slot.deployment
    await deployment?.release()
  }

  #stage(stage: Plan['stages'][number], { manifest }: PromptableModel): PlannedStage {
    const { source, peers } = this.#components.candidates()
    const record = [source, ...peers].find(({ record }) => record.peerId === stage.device)?.record
    return {
      peerId: stage.device,
      name: record?.name ?? stage.device,
      layers: stage.layers,
      weightBytes: weightBytes(manifest, stage.layers)
    }
  }
}

/** Waits until the requests before have given the slot back; the returned function does so for this one. */
async function takeTurn(slot: Slot, signal: AbortSignal): Promise<() => void> {
  if (slot.waiting >= MAX_WAITING_REQUESTS) {
    throw new RequestError(`${slot.waiting} requests wait for this model already; try again later`)
  }
  const before = slot.turn
  const mine = Promise.withResolvers<void>()
  slot.turn = before.then(() => mine.promise)
  slot.waiting++
  const giveBack = () => {
    slot.waiting--
    mine.resolve()
  }
  try {
    await Promise.race([
      before,
      new Promise<never>((_, reject) => {
        if (signal.aborted) reject(signal.reason)
        signal.addEventListener('abort', () => reject(signal.reason), { once: true })
      })
    ])
    return giveBack
  } catch (error) {
    giveBack()
    throw error
  }
}
