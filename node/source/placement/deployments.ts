import { logger } from '../../../models/log.ts'
import { DeadlineError } from '../../../protocols/errors.ts'
import type { DeploymentState, GenerateEvent, Move, PlannedStage, Predicted, Priority } from '../../api.ts'
import { MAX_IDLE_DEPLOYMENTS } from '../../constants.ts'
import { FOREVER_MS } from '../../duration.ts'
import { StageLostError } from '../../errors.ts'
import { isCalled, type Peers } from '../../mesh/peers.ts'
import type { ScenarioInput } from '../../plan/index.ts'
import type { Profiler } from '../../profile/profiler.ts'
import { roomsOf, type StageRoom } from '../../stage/room.ts'
import type { Answer, AnswerRequest } from '../pipeline/answer.ts'
import type { PromptableModel } from './catalog.ts'
import type { DeployRequest } from './deploy.ts'
import { Handover } from './handover.ts'
import { fitsAtAll } from './improvement.ts'
import type { Turn } from './line.ts'
import { Moves } from './moves.ts'
import { type AheadNeeds, PlacedAhead } from './placed-ahead.ts'
import { type Opening, Placer, type PlacerComponents } from './placer.ts'
import type { PlacementNeeds } from './planning.ts'
import { predictAnswer } from './prediction.ts'
import { PushedEvents } from './pushed-events.ts'
import { type OpenedAnswer, RunningAnswers, roomFor } from './running-answer.ts'
import { Site } from './site.ts'
import { SlowPeers } from './slow-peers.ts'
import { Spares } from './spares.ts'
import { Standbys } from './standbys.ts'

const log = logger('edgeshard:source')

export interface DeploymentRequest extends DeployRequest, Omit<AnswerRequest, 'maxTokens' | 'predicted'> {
  model: PromptableModel
  /** Tokens of the answer at most, where `newTokens` are only what is expected: it may be shorter, or go on behind them. */
  mostTokens?: number
  /** What was begun for it before its prompt was read. */
  ahead?: PlacedAhead | undefined
  /** Whether others are to draw it too, ready to go on with it. @default false */
  standby?: boolean | undefined
  /** @default 'normal' */
  priority?: Priority | undefined
  /** How long the placed model stays loaded behind this request. @default what the node was started with */
  keepAliveMs?: number | undefined
}

export interface DeploymentsComponents extends PlacerComponents {
  peers: PlacerComponents['peers'] & Pick<Peers, 'self' | 'known' | 'events' | 'links' | 'lease'>
  room: StageRoom
  /** Makes sure that this device has timed a model's layers. */
  profiler: Pick<Profiler, 'time'>
  /** How long a placed model stays loaded without a request. @default FOREVER_MS, until others need its memory */
  keepAliveMs?: number | undefined
}

/** An answer that has begun on a placed model. */
export interface PlacedAnswer {
  plan: { stages: PlannedStage[] }
  predicted: Predicted
  answer: Answer
  /** Tokens of the answer, those that were known with them, that the KV caches have room for. */
  roomTokens: number
  /** What of the time until now was planning. */
  planMs: number
  /** How it came there, where it has moved. */
  move?: Move | undefined
  /** What stands by for it, or did last. */
  readonly standby?: PlannedStage[] | undefined
  /**
   * Where the answer goes on from token `drawnTokens` of the reply on: other devices are as far with it. What is left is to be
   * given back when a token has come from there; until then it can be gone on with. Undefined: it stays.
   */
  goesOn(drawnTokens: number): PlacedAnswer | undefined
  /** The answer's first token is there. */
  firstToken(): void
  /** Ends the session. */
  giveBack(): Promise<void>
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
  /** Losses for which a peer was left. */
  readonly #judged = new WeakSet<StageLostError>()
  readonly #placer: Placer
  readonly #handover: Handover
  readonly #running: RunningAnswers
  readonly #moves: Moves
  readonly #spares: Spares
  readonly #standbys: Standbys

  constructor(components: DeploymentsComponents) {
    this.#components = components
    const slow = new SlowPeers(components)
    this.#placer = new Placer(components, slow)
    // An idle lease of this node's own had to make room: its deployment is over.
    for (const { leases } of roomsOf(components.room))
      leases.events.on('evict', ({ id }) => void this.#evicted(id))
    this.#running = new RunningAnswers(components)
    this.#running.events.on('rest', () => this.#letLongestIdleGo())
    this.#standbys = new Standbys(components, this.#placer, this.#running)
    this.#moves = new Moves(components, this.#placer, this.#running, this.#standbys)
    slow.moves = this.#moves
    this.#spares = new Spares(components, this.#placer)
    this.#handover = new Handover(components, this.#placer, this.#moves)
    components.peers.events.on('change', () => {
      this.#letRemovedGo()
      this.#standbys.look()
      this.#moves.look()
      this.#handover.look(this.#sites.values())
    })
  }

  /** Begins what the first placement will need, for a request whose prompt is still being read. */
  prepare(signal: AbortSignal): void {
    const isFirst = [...this.#sites.values()].every(({ deployment }) => deployment === undefined)
    if (isFirst) this.#components.planning.prepare(signal)
  }

  /**
   * Begins to place the model of a request whose prompt is still being read. Undefined where it is placed, or others are
   * about to place it, or it would not stay until the prompt is read.
   *
   * @param signal aborts when the request is over: what nobody has used by then is given back
   */
  placeAhead(
    needs: AheadNeeds & Pick<DeploymentRequest, 'keepAliveMs' | 'yields'>,
    signal: AbortSignal
  ): PlacedAhead | undefined {
    const site = this.#siteOf(needs)
    if (!site.isFree) return undefined
    this.#asks(site, needs)
    if (site.keepAliveMs === 0) return undefined
    const nothing = { scope: '', prompt: [], known: [], avoid: new Set<string>(), lost: undefined }
    // Late peers have their chance when the prompt is read, if it takes them.
    const request = { ...needs, ...nothing, isHasty: true }
    return new PlacedAhead(async own => {
      const emit = toldAt(site, own)
      const turn = await site.takeTurn(signal, { begun: false })
      const opening = this.#placer.ready(site, request, { turn, signal, emit })
      const ready = await opening.finally(() => turn.giveBack())
      // Leases on which no session came to be make no room for others: none is kept for a request that is over.
      const giveUp = () => {
        const { deployment } = ready
        const isLeft = site.deployment === deployment && site.restingSinceMs !== undefined
        if (isLeft && !deployment.used) void site.clear()
      }
      if (signal.aborted) giveUp()
      else signal.addEventListener('abort', giveUp, { once: true })
      return ready
    }, needs.requestId)
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
    if (request.lost !== undefined) this.#judge(request.lost)
    const site = this.#siteOf(request)
    this.#asks(site, request)
    const readAtMs = this.#components.planning.now()
    const turn = yield* this.#turn(site, request, signal)
    const events = new PushedEvents<GenerateEvent>()
    const left = new AbortController()
    const until = AbortSignal.any([signal, left.signal])
    const emit = toldAt(site, event => events.push(event))
    const opening = this.#open(site, { ...request, readAtMs }, { turn, signal: until, emit }).finally(() =>
      events.end()
    )
    // Awaited below; without this a rejection before that would count as unhandled.
    opening.catch(() => {})
    let placed: PlacedAnswer | undefined
    try {
      yield* events
      const opened = await opening
      placed = this.#running.begin(site, request, { ...opened, signal })
      this.#moves.watch(site)
      this.#spares.watch(site)
      if (request.standby === true) this.#standbys.watch(site)
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

  /**
   * Waits in the site's line, behind what was begun for the request before its prompt was read; yields what that does, or else
   * what those before it do to place the model. Its place in the line is its own meanwhile, whoever comes.
   *
   * @throws {BusyError} where too many wait, or memory was waited for before
   */
  async *#turn(
    site: Site,
    request: DeploymentRequest,
    signal: AbortSignal
  ): AsyncGenerator<GenerateEvent, Turn> {
    const { ahead, priority } = request
    const begun = request.known.length > 0
    const accepted = begun || request.begun || ahead !== undefined
    const left = new AbortController()
    const taking = site.takeTurn(AbortSignal.any([signal, left.signal]), { begun, accepted, priority })
    // Awaited below; without this a rejection before that would count as unhandled.
    taking.catch(() => {})
    const heard = new PushedEvents<GenerateEvent>()
    const hear = (event: GenerateEvent) => heard.push(event)
    const heardAll = () => heard.end()
    void taking.then(heardAll, heardAll)
    if (ahead === undefined) site.events.on('placing', hear)
    let isTaken = false
    try {
      yield* ahead === undefined ? heard : ahead.events
      ahead?.checkBusy()
      const turn = await taking
      isTaken = true
      return turn
    } finally {
      site.events.off('placing', hear)
      // The reader of the events has left, or it is refused: its place in the line is of no use, nor is its turn.
      left.abort(new Error('the turn is no longer wanted'))
      if (!isTaken)
        void taking
          .then(({ giveBack }) => giveBack())
          .catch(log.of(request.requestId).passOver('a request left the line before its turn came'))
    }
  }

  /** How long a model stays loaded behind a request that says so, or says nothing; 0: not at all, FOREVER_MS: until others need its memory. */
  keptMs(asked: number | undefined): number {
    return asked ?? this.#components.keepAliveMs ?? FOREVER_MS
  }

  /** Whether the model is loaded as a request wants it; it stays then as long as the request says. */
  isLoaded(
    needs: Pick<PlacementNeeds, 'model' | 'objective' | 'privacy' | 'placement'> &
      Pick<DeploymentRequest, 'keepAliveMs'>
  ): boolean {
    const site = this.#siteOf(needs)
    if (!site.isLoadedFor(needs)) return false
    this.#asks(site, needs)
    site.rest()
    return true
  }

  /** How long a model that is placed stays loaded without a request, until one says otherwise; 0: not at all. */
  keepAlive(modelId: string, ms: number): void {
    for (const site of this.#sites.values()) {
      if (site.modelId !== modelId) continue
      site.keepAliveMs = ms
      site.rest()
    }
  }

  /** What is placed now. */
  state(): DeploymentState[] {
    return [...this.#sites.values()].flatMap(site => {
      const { deployment, objective } = site
      const standby = this.#standbys.stagesOf(site)
      return deployment === undefined
        ? []
        : [{ ...deployment.state, objective, ...(standby && { standby: { stages: standby } }) }]
    })
  }

  /** Whether a model is placed here, or could be on the devices there are now, once what else they hold has made room. */
  async isPlaceable(needs: PlacementNeeds): Promise<boolean> {
    return this.isPlaced(needs.model.id) || (await fitsAtAll(this.#components.planning, needs))
  }

  isPlaced(modelId: string): boolean {
    return [...this.#sites.values()].some(
      site => site.modelId === modelId && site.deployment?.ended === false
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
    this.#handover.close()
    this.#moves.close()
    this.#spares.close()
    await Promise.all([this.#standbys.close(), ...[...this.#sites.values()].map(site => site.clear())])
  }

  /** Every deployment is a stream to each of its peers, and renewals: of idle ones there are only so many. */
  #letLongestIdleGo(): void {
    const resting = [...this.#sites.values()]
      .filter(site => site.restingSinceMs !== undefined)
      .sort((a, b) => a.restingSinceMs! - b.restingSinceMs!)
    for (const site of resting.slice(0, -MAX_IDLE_DEPLOYMENTS)) void site.clear()
  }

  /** A model that was removed, here or where it was imported, is not kept loaded. */
  #letRemovedGo(): void {
    for (const site of this.#sites.values()) {
      if (site.deployment === undefined || !site.named || isCalled(this.#components.peers, site.modelId))
        continue
      site.named = false
      site.remove()
    }
  }

  async #evicted(leaseId: string): Promise<void> {
    this.#standbys.evicted(leaseId)
    await Promise.all([...this.#sites.values()].map(site => site.evicted(leaseId)))
  }

  /** A request says how long the model stays behind it, and by which names it is known now. */
  #asks(
    site: Site,
    { model, keepAliveMs }: Pick<DeploymentRequest, 'keepAliveMs'> & Pick<PlacementNeeds, 'model'>
  ): void {
    site.keepAliveMs = this.keptMs(keepAliveMs)
    site.named = isCalled(this.#components.peers, model.id)
  }

  #siteOf({ model, objective }: Pick<PlacementNeeds, 'model' | 'objective'>): Site {
    const key = `${objective} ${model.id}`
    const site =
      this.#sites.get(key) ?? new Site(model.id, objective, placed => this.#handover.look([placed]))
    this.#sites.set(key, site)
    return site
  }

  /** A session on the site's deployment when it serves the request, else on a repaired or a new one. */
  async #open(
    site: Site,
    asked: DeploymentRequest & { readAtMs: number },
    opening: Opening
  ): Promise<Omit<OpenedAnswer, 'signal'>> {
    const { prompt, known, ends, sampling, pooling, scope, exact, requestId, draft, grammar } = asked
    const failures = new Failures(asked.avoid)
    let planMs = 0
    for (;;) {
      const request = { ...asked, avoid: failures.avoid }
      const ready = await this.#placer.ready(site, request, opening)
      const { deployment } = ready
      const ahead = asked.ahead?.takeSpent(deployment, asked.readAtMs)
      planMs += ready.planMs + (ahead?.planMs ?? 0)
      const loadMs = ready.loadMs ?? ahead?.loadMs
      const askedAtMs = ready.askedAtMs ?? ahead?.askedAtMs ?? this.#components.planning.now()
      // It was made for what was known before the prompt was read.
      if (ahead !== undefined) this.#placer.adopt(deployment, request)
      const placed = { needs: request, stages: deployment.plan.stages }
      const predicted = predictAnswer(this.#components.planning, placed) ?? deployment.predicted
      try {
        const maxTokens = roomFor(asked, deployment) - known.length
        const kept = { prompt, known, maxTokens, ends, sampling, pooling, scope, exact }
        const answer = { ...kept, predicted, requestId, draft, grammar }
        const opened = await deployment.open(answer, opening.signal)
        // Its answers may have gone over to another one meanwhile.
        if (deployment.ended || site.deployment === deployment)
          return { deployment, answer: opened, planMs, loadMs, askedAtMs }
        await opened.close()
      } catch (error) {
        // A stage was evicted while it was idle, or is gone: place the model again, for all that have a session.
        if (!(error instanceof StageLostError) && error !== deployment.failure) throw error
        if (error instanceof StageLostError) this.#judge(error)
        deployment.fail(error as Error)
        failures.add(error as Error)
      }
    }
  }

  /**
   * Takes note of two peers that cannot reach each other, and leaves one that alone did not do in time what it was to do:
   * several answers that lose the same stage count once.
   */
  #judge(loss: StageLostError): void {
    if (loss.apart !== undefined) this.#components.planning.foundApart(loss.apart)
    if (!(loss.cause instanceof DeadlineError) || this.#judged.has(loss)) return
    this.#judged.add(loss)
    this.#components.distrust.late(loss.peerId, loss.message)
  }
}

/** Tells of what placing the model comes to, and those who wait at the site, too. */
function toldAt(site: Site, own: (event: GenerateEvent) => void): (event: GenerateEvent) => void {
  return event => {
    own(event)
    site.events.emit('placing', event)
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
