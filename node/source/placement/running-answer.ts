import { EventEmitter } from 'node:events'
import { logger } from '../../../models/log.ts'
import type { Move, PlannedStage, Predicted } from '../../api.ts'
import type { Answer } from '../pipeline/answer.ts'
import type { Deployment } from './deployment.ts'
import type { DeploymentRequest, PlacedAnswer } from './deployments.ts'
import type { Distrust } from './distrust.ts'
import type { Follower } from './follower.ts'
import { behindCached, type Planning } from './planning.ts'
import { learnFrom, predictRunning } from './prediction.ts'
import type { Site } from './site.ts'

const log = logger('edgeshard:source')

/** What moves the answers of one deployment to another one. */
export interface Takeover {
  /** The stages to which they would go, where these stand by for a loss. */
  readonly standby: PlannedStage[] | undefined
  /** Moves all that are level now, as the deployment where they run is lost. @returns whether there is one to move to */
  now(): boolean
}

/** A session that has begun, and where. */
export interface OpenedAnswer {
  deployment: Deployment
  answer: Answer
  planMs: number
  /** What fetching and loading its stages was to take; undefined where they were loaded. */
  loadMs?: number | undefined
  /** When its stages were asked for; undefined where it ran elsewhere before. */
  askedAtMs?: number | undefined
  /** The request's. */
  signal: AbortSignal
  /** Why it began there, where it ran elsewhere before. */
  move?: Move
}

export interface RunningAnswersComponents {
  planning: Planning
  distrust: Pick<Distrust, 'contradicted'>
}

/** The answers that are being drawn, by where they are. */
export class RunningAnswers {
  /** `change`: one has begun or ended; `rest`: one has ended at a site. */
  readonly events = new EventEmitter<{ change: []; rest: [site: Site] }>()
  readonly #components: RunningAnswersComponents
  readonly #running = new Set<RunningAnswer>()

  constructor(components: RunningAnswersComponents) {
    this.#components = components
    this.events.setMaxListeners(0)
  }

  /** Those on a deployment. */
  on(deployment: Deployment): RunningAnswer[] {
    return [...this.#running].filter(running => running.deployment === deployment)
  }

  get size(): number {
    return this.#running.size
  }

  begin(site: Site, request: DeploymentRequest, opened: OpenedAnswer): RunningAnswer {
    const running = new RunningAnswer(this.#components.planning, request, opened, () =>
      this.#end(site, running)
    )
    this.#running.add(running)
    this.events.emit('change')
    return running
  }

  #end(site: Site, running: RunningAnswer): void {
    if (!this.#running.delete(running)) return
    site.rest()
    const { planning, distrust } = this.#components
    const { answer, move, wasFollowed } = running
    const { slots, microBatches } = running.deployment.state
    const placed = { ...running.placed, slots, microBatches }
    // What ran beside it has its part in what its steps took, or they followed each other as those of guesses do.
    const guessed =
      move !== undefined || wasFollowed || (answer.guesses !== undefined && answer.guesses.sent > 0)
    for (const { peerId, reason } of learnFrom(planning, placed, answer.measured.observed, guessed)) {
      distrust.contradicted(peerId, reason)
    }
    this.events.emit('rest', site)
    this.events.emit('change')
  }
}

/** One answer on one deployment, and where it goes on. */
export class RunningAnswer implements PlacedAnswer {
  readonly plan: { stages: PlannedStage[] }
  readonly predicted: Predicted
  readonly answer: Answer
  readonly roomTokens: number
  readonly planMs: number
  readonly move: Move | undefined
  readonly signal: AbortSignal
  readonly request: DeploymentRequest
  readonly deployment: Deployment
  /** What its times are predicted of. */
  readonly placed: { needs: DeploymentRequest; stages: PlannedStage[] }
  readonly #planning: Pick<Planning, 'firsts' | 'now'>
  /** What its prompt was to take by the cost model. */
  readonly #promptMs: number
  readonly #onEnd: (() => void)[]
  /** The place where it goes on; `taken` when somebody reads it there, and ends it. */
  #next: { running: RunningAnswer; follower: Follower; taken: boolean } | undefined
  /** What may move it if its deployment is lost. */
  #takeover: Takeover | undefined
  standby: PlannedStage[] | undefined
  /** Whether another place has drawn it, too, on devices that it may have shared. */
  wasFollowed = false
  /** Nobody reads it any more. */
  #isLeft = false
  #ended = false

  constructor(
    planning: Planning,
    request: DeploymentRequest,
    { deployment, answer, planMs, loadMs, askedAtMs, signal, move }: OpenedAnswer,
    onEnd: () => void
  ) {
    const { plan } = deployment
    this.request = request
    this.deployment = deployment
    this.plan = plan
    this.answer = answer
    this.planMs = planMs
    this.move = move
    this.signal = signal
    this.roomTokens = roomFor(request, deployment)
    // A next turn's prompt is short, and what is known has changed since the plan was made.
    this.placed = { needs: behindCached(request, answer.cachedTokens), stages: plan.stages }
    const predicted = predictRunning(planning, this.placed) ?? deployment.predicted
    this.#planning = planning
    this.#promptMs = predicted.ttftMs
    const { startedAtMs, known } = request
    const waits = known.length === 0 && askedAtMs !== undefined && startedAtMs !== undefined
    this.predicted = {
      ...predicted,
      ttftMs: predicted.ttftMs + planning.firsts.beyondMs(request.model.id),
      ...(loadMs !== undefined && { loadMs }),
      ...(waits && { waitedMs: Math.max(0, askedAtMs - startedAtMs) })
    }
    this.#onEnd = [onEnd]
  }

  get ended(): boolean {
    return this.#ended
  }

  /** True from when it is given back on. */
  get isLeft(): boolean {
    return this.#isLeft
  }

  /** Calls back when it has ended here. */
  onEnd(onEnd: () => void): void {
    this.#onEnd.push(onEnd)
  }

  /** While it is moved this may be done at once where its deployment is lost; undefined: it is moved no more. */
  mayBeTakenOver(takeover: Takeover | undefined): void {
    this.#takeover = takeover
    this.wasFollowed ||= takeover !== undefined
    this.standby = takeover?.standby ?? this.standby
  }

  /** The place where it goes on from now on. */
  leadTo(next: { running: RunningAnswer; follower: Follower }): void {
    this.#next = { ...next, taken: false }
    // Who began to give it back has looked for a next place, and found none.
    if (this.#isLeft) this.stay()
    else this.answer.pause(true)
  }

  /** It goes on where it is. */
  stay(): void {
    const next = this.#next
    this.#next = undefined
    if (next !== undefined && !this.#ended) this.answer.pause(false)
    if (next?.taken === false)
      void next.running.giveBack().catch(log.passOver('what nobody reads was not ended'))
  }

  firstToken(): void {
    const { startedAtMs, model, objective } = this.request
    const { loadMs, waitedMs } = this.predicted
    // What loads, or shares its devices with others, says nothing of the rest.
    const isAlone = loadMs === undefined && objective === 'latency' && this.deployment.active === 1
    if (!isAlone || startedAtMs === undefined || waitedMs === undefined) return
    this.#planning.firsts.note(model.id, this.#promptMs, this.#planning.now() - startedAtMs - waitedMs)
  }

  goesOn(drawnTokens: number): PlacedAnswer | undefined {
    if (this.#next === undefined && this.deployment.ended) this.#takeover?.now()
    const next = this.#next
    // What it had drawn before the other one began is read here.
    if (next === undefined || drawnTokens < next.follower.from) return undefined
    const { follower, running } = next
    if (follower.failure !== undefined || running.isLeft || running.deployment.ended) {
      // It alone has failed there, perhaps: what was to be left is as good as it was.
      if (!this.deployment.ended) this.stay()
      return undefined
    }
    follower.startFrom(drawnTokens)
    next.taken = true
    return running
  }

  async giveBack(): Promise<void> {
    this.#isLeft = true
    this.stay()
    await this.answer.close()
    if (this.#ended) return
    this.#ended = true
    for (const onEnd of this.#onEnd) onEnd()
  }
}

/** Tokens of an answer that a deployment has room for: more than were planned for, where it has more and they may be drawn. */
export function roomFor(
  { newTokens, mostTokens = newTokens, promptTokens }: DeploymentRequest,
  { contextTokens }: Deployment
): number {
  return Math.min(mostTokens, Math.max(newTokens, contextTokens - promptTokens))
}
