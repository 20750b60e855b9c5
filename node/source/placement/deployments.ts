import { logger } from '../../../models/log.ts'
import type { DeploymentState, GenerateEvent, PlannedStage, Predicted } from '../../api.ts'
import { StageLostError } from '../../errors.ts'
import type { ScenarioInput } from '../../plan/index.ts'
import type { StageRoom } from '../../stage/room.ts'
import type { Answer, AnswerRequest } from '../pipeline/pipeline.ts'
import type { PromptableModel } from './catalog.ts'
import type { DeployRequest } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import { type Opening, Placer, type PlacerComponents } from './placer.ts'
import type { PlacementNeeds } from './planning.ts'
import { learnFrom, predictAnswer } from './prediction.ts'
import { PushedEvents } from './pushed-events.ts'
import { Site } from './site.ts'
import { SlowPeers } from './slow-peers.ts'

const log = logger('edgeshard:source')

export interface DeploymentRequest extends DeployRequest, Omit<AnswerRequest, 'maxTokens' | 'predicted'> {
  model: PromptableModel
}

export interface DeploymentsComponents extends PlacerComponents {
  room: StageRoom
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

/** Times that a request opens a session on a fresh deployment which loses a stage at once. */
const MAX_OPEN_ATTEMPTS = 3

/**
 * The models that this source has placed on devices, one deployment a model and objective: kept warm for the next
 * prompt, shared by as many requests at once as it has slots, planned anew when a request needs another one, a better
 * one is worth the move, or a device took its memory back. Requests beyond that wait, in the order in which they came.
 */
export class Deployments {
  readonly #components: DeploymentsComponents
  readonly #sites = new Map<string, Site>()
  readonly #slow: SlowPeers
  readonly #placer: Placer

  constructor(components: DeploymentsComponents) {
    this.#components = components
    this.#slow = new SlowPeers(components)
    this.#placer = new Placer(components, this.#slow)
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
    const emit = (event: GenerateEvent) => events.push(event)
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
        // The reader of the events has left before the session was its own to end. The turn lasts until nothing of it
        // changes the site any more.
        left.abort(new Error('the answer is no longer wanted'))
        void opening
          .then(({ answer }) => answer.close())
          .catch(
            log.of(request.requestId).passOver('nobody waits for the session any more; it is not opened')
          )
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
    const { cachedTokens } = answer
    const fresh = { ...request, cachedTokens, promptTokens: request.promptTokens - cachedTokens }
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
    const { prompt, known, newTokens, ends, sampling, scope, requestId } = asked
    const maxTokens = newTokens - known.length
    const failures = new Failures([...asked.avoid, ...this.#slow.peerIds])
    let planMs = 0
    for (;;) {
      const request = { ...asked, avoid: failures.avoid }
      const ready = await this.#placer.ready(site, request, opening)
      planMs += ready.planMs
      const { deployment } = ready
      const placed = { needs: request, stages: deployment.plan.stages }
      const predicted = predictAnswer(this.#components.planning, placed) ?? deployment.predicted
      try {
        const answer = { prompt, known, maxTokens, ends, sampling, scope, predicted, requestId }
        return { deployment, answer: await deployment.open(answer, opening.signal), planMs }
      } catch (error) {
        // A stage was evicted while it was idle, or is gone: place the model again, for all that have a session.
        if (!(error instanceof StageLostError) && error !== deployment.failure) throw error
        deployment.fail(error as Error)
        failures.add(error as Error)
      }
    }
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
