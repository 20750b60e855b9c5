import { weightBytes } from '../../models/memory.ts'
import { DEPLOYMENT_IDLE_MS, MAX_WAITING_REQUESTS, RECONSIDER_MS } from '../constants.ts'
import { BusyError, StageLostError } from '../errors.ts'
import type { Plan, ScenarioInput } from '../plan/index.ts'
import type { DeploymentState, GenerateEvent, Objective, PlannedStage, Predicted } from '../types.ts'
import type { PromptableModel } from './catalog.ts'
import { Deployment, type DeploymentComponents } from './deployment.ts'
import { EventQueue } from './event-queue.ts'
import { worthLeaving, worthMoving } from './improvement.ts'
import type { Reply, ReplyRequest } from './pipeline.ts'
import { place } from './place.ts'
import {
  contextTokensFor,
  type PlacementNeeds,
  type PlanningComponents,
  planFor,
  scenarioFor
} from './planning.ts'
import { learnFrom, predictAnswer } from './prediction.ts'
import { type RecruitComponents, recruit } from './recruit.ts'
import type { SlowStage } from './slowness.ts'

export interface DeploymentRequest extends PlacementNeeds, Omit<ReplyRequest, 'maxTokens'> {
  model: PromptableModel
  /** Peers that failed this request: taken only where it cannot be placed without them. */
  avoid: ReadonlySet<string>
  /** The loss that made this placement necessary. */
  lost: StageLostError | undefined
}

export interface DeploymentsComponents extends RecruitComponents, DeploymentComponents, PlanningComponents {
  /** Makes sure that this device has timed the model's layers. */
  profile: (model: PromptableModel) => Promise<void>
}

/** A reply on a placed model. */
export interface Placement {
  plan: { stages: PlannedStage[] }
  predicted: Predicted
  reply: Reply
  /** What of the time until now was planning. */
  planMs: number
  /**
   * One of its stages has turned slow: fails the placement, as if that stage were lost, when the other devices would
   * finish the answer sooner.
   */
  leaveSlow(slow: SlowStage, tokens: number): Promise<void>
  /** Ends the session. */
  giveBack(): Promise<void>
}

/** Where a model is placed for one objective. */
interface Site {
  deployment?: Deployment
  objective: Objective
  /** What the deployment was made for, beside its size. */
  terms?: string
  /** When the deployment was last found to be the best, or made. */
  checkedAtMs?: number
  /** Settles when the request before has its session. */
  turn: Promise<void>
  waiting: number
  idle?: NodeJS.Timeout
}

type Emit = (event: GenerateEvent) => void

/** Times that a request opens a session on a fresh deployment which loses a stage at once. */
const MAX_OPEN_ATTEMPTS = 3

/**
 * The models that this source has placed on devices, one placement a model and objective: kept warm for the next
 * prompt, shared by as many requests at once as it has slots, planned anew when a request needs another one or a device
 * took its memory back. Requests beyond that wait, in the order in which they came.
 */
export class Deployments {
  readonly #components: DeploymentsComponents
  readonly #sites = new Map<string, Site>()

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
    const { model, objective } = request
    const key = `${objective} ${model.id}`
    const site: Site = this.#sites.get(key) ?? { objective, turn: Promise.resolve(), waiting: 0 }
    this.#sites.set(key, site)
    const giveTurnBack = await takeTurn(site, signal)
    const events = new EventQueue<GenerateEvent>()
    try {
      clearTimeout(site.idle)
      const opening = this.#open(site, request, signal, event => events.push(event)).finally(() =>
        events.end()
      )
      // Awaited below; without this a rejection before that would count as unhandled.
      opening.catch(() => {})
      yield* events
      const { deployment, reply, planMs } = await opening
      const { plan } = deployment
      // A next turn's prompt is short, and what is known has changed since the plan was made.
      const fresh = { ...request, promptTokens: request.promptTokens - reply.cachedTokens }
      const placed = { needs: fresh, stages: plan.stages }
      return {
        plan,
        predicted: predictAnswer(this.#components, placed) ?? deployment.predicted,
        reply,
        planMs,
        leaveSlow: (slow, tokens) => this.#leaveSlow(deployment, request, slow, tokens),
        giveBack: async () => {
          await reply.close()
          learnFrom(this.#components, placed, reply.measured.means)
          await this.#rest(site, deployment)
        }
      }
    } finally {
      giveTurnBack()
    }
  }

  /** What is placed now. */
  state(): DeploymentState[] {
    return [...this.#sites.values()].flatMap(({ deployment, objective }) =>
      deployment === undefined ? [] : [{ ...deployment.state, objective }]
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
    const site = [...this.#sites.values()].find(({ deployment }) => deployment?.holds(leaseId))
    if (site !== undefined) await this.#drop(site)
  }

  /** Gives every lease back. */
  async close(): Promise<void> {
    await Promise.all([...this.#sites.values()].map(site => this.#drop(site)))
  }

  /** A session on the site's deployment when it serves the request, else on a new one. */
  async #open(
    site: Site,
    request: DeploymentRequest,
    signal: AbortSignal,
    emit: Emit
  ): Promise<{ deployment: Deployment; reply: Reply; planMs: number }> {
    const { prompt, known, newTokens, ends, sampling, scope } = request
    const reply = { prompt, known, maxTokens: newTokens - known.length, ends, sampling, scope }
    let planMs = 0
    for (let attempt = 1; ; ) {
      const { deployment } = site
      const usable = deployment !== undefined && !deployment.ended && serves(site, deployment, request)
      if (!usable || (await this.#outdated(site, deployment, request))) {
        // Who has a session there finishes first; when a stage is lost, nobody has any more. Where others want the
        // memory, the next session waits behind them.
        while (deployment !== undefined && !deployment.ended && deployment.active > 0) {
          await deployment.changed(signal)
        }
        await this.#drop(site)
        await this.#components.profile(request.model)
        const deployed = await this.#deploy(request, signal, emit)
        planMs += deployed.planMs
        site.deployment = deployed.deployment
        site.terms = termsOf(request)
        site.checkedAtMs = this.#components.now()
        continue
      }
      try {
        const opened = await deployment.open(reply, signal)
        if (opened !== undefined) return { deployment, reply: opened, planMs }
        await deployment.changed(signal)
      } catch (error) {
        // A stage was evicted while it was idle, or is gone: place the model again.
        if (!(error instanceof StageLostError) || ++attempt > MAX_OPEN_ATTEMPTS) throw error
        await this.#drop(site)
      }
    }
  }

  async #leaveSlow(
    deployment: Deployment,
    request: DeploymentRequest,
    { stage, beforeMs, recentMs }: SlowStage,
    tokens: number
  ): Promise<void> {
    const { peerId, name, layers } = deployment.plan.stages[stage]!
    if (peerId === this.#components.peerId) return
    const without = new Set([...request.avoid, peerId])
    const slow = { tokens, stepMs: recentMs }
    if (!(await worthLeaving(this.#components, request, without, slow))) return
    const steps = `a token takes ${Math.round(recentMs)} ms instead of ${Math.round(beforeMs)} ms`
    const message = `stage slow: ${name} (${peerId}) with layers [${layers[0]}, ${layers[1]}): ${steps}`
    deployment.fail(new StageLostError(message, peerId))
  }

  /** True when nobody uses the deployment and another one would be worth the move. */
  async #outdated(site: Site, deployment: Deployment, request: DeploymentRequest): Promise<boolean> {
    const nowMs = this.#components.now()
    if (deployment.active > 0 || nowMs - (site.checkedAtMs ?? 0) < RECONSIDER_MS) return false
    site.checkedAtMs = nowMs
    const { plan, state } = deployment
    return await worthMoving(this.#components, request, { stages: plan.stages, slots: state.slots })
  }

  async #deploy(
    request: DeploymentRequest,
    signal: AbortSignal,
    emit: Emit
  ): Promise<{ deployment: Deployment; planMs: number }> {
    const { now } = this.#components
    let planMs = 0
    const { model, avoid, lost, placement } = request
    const { id: modelId, manifest } = model
    const contextTokens = contextTokensFor(request)
    const { plan, recruited } = await place({
      plan: async history => {
        const startMs = now()
        const found = await planFor(this.#components, request, { ...history, avoid, lost }, { signal })
        planMs += now() - startMs
        const stages = found.plan.stages.map(stage => this.#named(stage, model))
        return { ...found.plan, slots: found.slots, waitMs: found.waitMs, stages }
      },
      recruit: ({ stages, slots, waitMs }) =>
        recruit(
          this.#components,
          { modelId, manifest, stages, slots, contextTokens, waitMs },
          { signal, onProgress: emit }
        )
    })
    const { ttftMs, tpotMs, stages, linksMs } = plan.predicted
    const deployment = await Deployment.start(this.#components, {
      modelId,
      manifest,
      predicted: { ttftMs, tpotMs, stages, linksMs },
      stages: recruited,
      contextTokens,
      slots: plan.slots,
      microBatches: Math.min(plan.slots, placement.microBatches ?? plan.microBatches),
      strategy: placement.strategy ?? 'no-bubble'
    })
    return { deployment, planMs }
  }

  /** After the last session: kept warm for a while, unless it cannot be used again. */
  async #rest(site: Site, deployment: Deployment): Promise<void> {
    if (site.deployment !== deployment) return
    if (deployment.ended) await this.#drop(site)
    else if (deployment.active === 0 && site.waiting === 0) {
      clearTimeout(site.idle)
      site.idle = setTimeout(() => void this.#drop(site), DEPLOYMENT_IDLE_MS).unref()
    }
  }

  async #drop(site: Site): Promise<void> {
    const { deployment } = site
    clearTimeout(site.idle)
    delete site.deployment
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

/** True when a request can use a deployment as it is. */
function serves({ terms }: Site, deployment: Deployment, request: DeploymentRequest): boolean {
  const { contextTokens, wanted, active } = deployment
  const fits = request.promptTokens + request.newTokens <= contextTokens && termsOf(request) === terms
  return fits && !(wanted && active > 0)
}

function termsOf({ privacy, placement }: DeploymentRequest): string {
  const { method, cloud, batch, microBatches, strategy } = placement
  return JSON.stringify([privacy, method, cloud, batch, microBatches, strategy])
}

/** Waits until the requests before have their sessions; the returned function lets the next one have its own. */
async function takeTurn(site: Site, signal: AbortSignal): Promise<() => void> {
  if (site.waiting >= MAX_WAITING_REQUESTS) {
    throw new BusyError(`${site.waiting} requests wait for this model already; try again later`)
  }
  const before = site.turn
  const mine = Promise.withResolvers<void>()
  site.turn = before.then(() => mine.promise)
  site.waiting++
  const giveBack = () => {
    site.waiting--
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
