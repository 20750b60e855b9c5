import type { DeploymentState, GenerateEvent, PlannedStage, Predicted } from '../../api.ts'
import { BEGUN_FIRST_MS, RECONSIDER_MS, SLOW_AVOID_MS } from '../../constants.ts'
import { delay } from '../../delay.ts'
import { StageLostError } from '../../errors.ts'
import type { ScenarioInput } from '../../plan/index.ts'
import type { Profiler } from '../../profile/profiler.ts'
import type { StageRoom } from '../../stage/room.ts'
import type { Answer, AnswerRequest } from '../pipeline/pipeline.ts'
import type { SlowStage } from '../pipeline/slowness.ts'
import type { PromptableModel } from './catalog.ts'
import { type DeployComponents, type DeployRequest, deploy } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import { worthLeaving, worthMoving } from './improvement.ts'
import type { Turn } from './line.ts'
import type { PlacementNeeds } from './planning.ts'
import { learnFrom, predictAnswer } from './prediction.ts'
import { PushedEvents } from './pushed-events.ts'
import { repair } from './repair.ts'
import { Site } from './site.ts'

export interface DeploymentRequest extends DeployRequest, Omit<AnswerRequest, 'maxTokens' | 'predicted'> {
  model: PromptableModel
}

export interface DeploymentsComponents extends DeployComponents {
  room: StageRoom
  profiler: Pick<Profiler, 'time'>
}

/** An answer that has begun on a placed model. */
export interface PlacedAnswer {
  plan: { stages: PlannedStage[] }
  predicted: Predicted
  answer: Answer
  /** What of the time until now was planning. */
  planMs: number
  /** Ends the session. */
  giveBack(): Promise<void>
}

interface Opened {
  deployment: Deployment
  answer: Answer
  planMs: number
}

type Emit = (event: GenerateEvent) => void

interface Opening {
  turn: Turn
  signal: AbortSignal
  emit: Emit
}

/** Times that a request opens a session on a fresh deployment which loses a stage at once. */
const MAX_OPEN_ATTEMPTS = 3

/**
 * The models that this source has placed on devices, one placement a model and objective: kept warm for the next
 * prompt, shared by as many requests at once as it has slots, planned anew when a request needs another one, a better
 * one is worth the move, or a device took its memory back. Requests beyond that wait, in the order in which they came.
 */
export class Deployments {
  readonly #components: DeploymentsComponents
  readonly #sites = new Map<string, Site>()
  /** When a deployment was last found to be the best there is. */
  readonly #checkedAtMs = new WeakMap<Deployment, number>()
  /** Peers that have turned slow, and when they were left. */
  readonly #slow = new Map<string, number>()

  constructor(components: DeploymentsComponents) {
    this.#components = components
    // An idle lease of this node's own had to make room: its deployment is over.
    components.room.leases.events.on('evict', ({ id }) => void this.#evicted(id))
  }

  /**
   * Places the model, or finds it placed, and opens a session; yields what happens until then.
   *
   * @throws {PlanRefusedError} {StageLostError} {BusyError} when too many requests wait
   */
  async *acquire(
    request: DeploymentRequest,
    { signal }: { signal: AbortSignal }
  ): AsyncGenerator<GenerateEvent, PlacedAnswer> {
    const site = this.#siteOf(request)
    const turn = await site.takeTurn(signal, { begun: request.known.length > 0 })
    const events = new PushedEvents<GenerateEvent>()
    const left = new AbortController()
    const until = AbortSignal.any([signal, left.signal])
    const emit: Emit = event => events.push(event)
    const opening = this.#open(site, request, { turn, signal: until, emit }).finally(() => events.end())
    // Awaited below; without this a rejection before that would count as unhandled.
    opening.catch(() => {})
    let placed: PlacedAnswer | undefined
    try {
      yield* events
      placed = this.#placed(site, request, await opening)
      return placed
    } finally {
      if (placed !== undefined) turn.giveBack()
      else {
        // Whoever reads the events has left before the session was his to end. Its turn lasts until nothing of it changes
        // the site any more.
        left.abort(new Error('the answer is no longer wanted'))
        void opening
          .then(({ answer }) => answer.close())
          .catch(() => {})
          .then(() => turn.giveBack())
      }
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
    const { planning, profiler } = this.#components
    await profiler.time(needs.model)
    await planning.measure(signal)
    return planning.scenario(needs)
  }

  /** Gives every lease back. */
  async close(): Promise<void> {
    await Promise.all([...this.#sites.values()].map(site => site.clear()))
  }

  async #evicted(leaseId: string): Promise<void> {
    await Promise.all([...this.#sites.values()].map(site => site.evicted(leaseId)))
  }

  #placed(site: Site, request: DeploymentRequest, { deployment, answer, planMs }: Opened): PlacedAnswer {
    const { planning } = this.#components
    const { plan } = deployment
    // A next turn's prompt is short, and what is known has changed since the plan was made.
    const fresh = { ...request, promptTokens: request.promptTokens - answer.cachedTokens }
    const placed = { needs: fresh, stages: plan.stages }
    return {
      plan,
      predicted: predictAnswer(planning, placed) ?? deployment.predicted,
      answer,
      planMs,
      giveBack: async () => {
        await answer.close()
        site.rest()
        learnFrom(planning, placed, answer.measured.means)
      }
    }
  }

  #siteOf({ model, objective }: DeploymentRequest): Site {
    const key = `${objective} ${model.id}`
    const site = this.#sites.get(key) ?? new Site(objective)
    this.#sites.set(key, site)
    return site
  }

  /** A session on the site's deployment when it serves the request, else on a repaired or a new one. */
  async #open(site: Site, asked: DeploymentRequest, opening: Opening): Promise<Opened> {
    const { prompt, known, newTokens, ends, sampling, scope } = asked
    const maxTokens = newTokens - known.length
    const failures = new Failures([...asked.avoid, ...this.#slowPeers()])
    let planMs = 0
    for (;;) {
      const request = { ...asked, avoid: failures.avoid }
      const ready = await this.#ready(site, request, opening)
      planMs += ready.planMs
      const { deployment } = ready
      const placed = { needs: request, stages: deployment.plan.stages }
      const predicted = predictAnswer(this.#components.planning, placed) ?? deployment.predicted
      try {
        const answer = { prompt, known, maxTokens, ends, sampling, scope, predicted }
        return { deployment, answer: await deployment.open(answer, opening.signal), planMs }
      } catch (error) {
        // A stage was evicted while it was idle, or is gone: place the model again, for everybody who has a session.
        if (!(error instanceof StageLostError) && error !== deployment.failure) throw error
        deployment.fail(error as Error)
        failures.add(error as Error)
      }
    }
  }

  /** A deployment that serves the request and has a slot to spare: the one that is there, repaired, or a new one. */
  async #ready(
    site: Site,
    request: DeploymentRequest,
    { turn, signal, emit }: Opening
  ): Promise<{ deployment: Deployment; planMs: number }> {
    let planMs = 0
    let waitedFor: Deployment | undefined
    for (;;) {
      await turn.letBegunPass(signal)
      const current = site.deployment
      // Who lost a stage there comes back for what is left of it, and goes first.
      if (current?.ended && request.known.length === 0 && waitedFor !== current) {
        waitedFor = current
        await delay(BEGUN_FIRST_MS, signal)
        continue
      }
      const broken = site.broken(request)
      if (broken !== undefined) {
        await broken.closeSessions()
        const repaired = await repair(this.#components, broken, request, { signal, emit })
        planMs += repaired.planMs
        if (repaired.done) return { deployment: broken, planMs }
      }
      const serving = site.serving(request)
      const serves = serving !== undefined && !(await this.#outdated(serving, request))
      if (serves && !serving.full && !serving.ended) return { deployment: serving, planMs }
      // Nobody is sent away for the sake of another request.
      if (current !== undefined && !current.ended && current.active > 0) {
        await current.changed(signal)
        continue
      }
      if (serves) continue
      const replaced = await this.#replace(site, request, { signal, emit })
      return { deployment: replaced.deployment, planMs: planMs + replaced.planMs }
    }
  }

  /** Places the model again; what stays where it is stays loaded. */
  async #replace(
    site: Site,
    request: DeploymentRequest,
    { signal, emit }: Omit<Opening, 'turn'>
  ): Promise<{ deployment: Deployment; planMs: number }> {
    // An answer that goes on elsewhere takes no room from those that went on beside it.
    const contextTokens = request.known.length > 0 ? site.deployment?.contextTokens : undefined
    const replaced = site.deployment?.plan.stages
    const releaseBefore = await site.retire()
    try {
      await this.#components.profiler.time(request.model)
      const needs = { ...request, replaced, ...(contextTokens !== undefined && { contextTokens }) }
      const onSlow = (slow: Deployment, stage: SlowStage) =>
        void this.#leaveSlow(slow, request, stage).catch(() => {})
      const { deployment, planMs } = await deploy(this.#components, needs, { signal, emit, onSlow })
      this.#checkedAtMs.set(deployment, this.#components.planning.now())
      site.put(deployment, request)
      return { deployment, planMs }
    } finally {
      void releaseBefore()
    }
  }

  /** Fails a placement, as if its slow stage were lost, when the other devices would finish its answers sooner. */
  async #leaveSlow(
    deployment: Deployment,
    request: DeploymentRequest,
    { stage, beforeMs, recentMs }: SlowStage
  ): Promise<void> {
    const { peerId, name, layers } = deployment.plan.stages[stage]!
    if (peerId === this.#components.peers.peerId) return
    const without = new Set([...request.avoid, peerId])
    const now = { answers: deployment.progress, stepMs: recentMs }
    if (!(await worthLeaving(this.#components.planning, request, without, now))) return
    // It may have been lost meanwhile, or replaced.
    if (deployment.ended || deployment.plan.stages[stage]?.peerId !== peerId) return
    const steps = `a token takes ${Math.round(recentMs)} ms instead of ${Math.round(beforeMs)} ms`
    const message = `stage slow: ${name} (${peerId}) with layers [${layers[0]}, ${layers[1]}): ${steps}`
    this.#slow.set(peerId, this.#components.planning.now())
    deployment.fail(new StageLostError(message, peerId))
  }

  #slowPeers(): string[] {
    const sinceMs = this.#components.planning.now() - SLOW_AVOID_MS
    for (const [peerId, leftAtMs] of this.#slow) if (leftAtMs < sinceMs) this.#slow.delete(peerId)
    return [...this.#slow.keys()]
  }

  /** True when nobody uses the deployment and another one would be worth the move. */
  async #outdated(deployment: Deployment, request: DeploymentRequest): Promise<boolean> {
    const nowMs = this.#components.planning.now()
    const checkedAtMs = this.#checkedAtMs.get(deployment) ?? 0
    if (deployment.active > 0 || nowMs - checkedAtMs < RECONSIDER_MS) return false
    this.#checkedAtMs.set(deployment, nowMs)
    const { plan, state, contextTokens } = deployment
    const current = { ...state, stages: plan.stages, contextTokens }
    return await worthMoving(this.#components.planning, request, current)
  }
}

/** What one request has met while it opened its session. */
class Failures {
  readonly avoid: Set<string>
  /** Once may be a lease that had to make room. */
  readonly #once = new Set<string>()
  #count = 0

  constructor(avoid: Iterable<string>) {
    this.avoid = new Set(avoid)
  }

  /** @throws the error where it is one too many */
  add(error: Error): void {
    if (++this.#count > MAX_OPEN_ATTEMPTS) throw error
    if (!(error instanceof StageLostError)) return
    if (this.#once.has(error.peerId)) this.avoid.add(error.peerId)
    this.#once.add(error.peerId)
  }
}
