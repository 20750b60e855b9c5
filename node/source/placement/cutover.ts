import { logger } from '../../../models/log.ts'
import { hasState } from '../../../models/recurrence.ts'
import { messageOf } from '../../../protocols/text.ts'
import type { Move, PlannedStage } from '../../api.ts'
import { CUTOVER_GRACE_MS, CUTOVER_PATIENCE_MS } from '../../constants.ts'
import { StageHandedOverError } from '../../errors.ts'
import { cutsOf } from '../pipeline/dropped-tokens.ts'
import { devicesOf } from '../request/request-log.ts'
import type { NextPlan } from './beside.ts'
import { type DeployComponents, lanesFor } from './deploy.ts'
import { Deployment } from './deployment.ts'
import { Follower } from './follower.ts'
import type { Placer, ReadyRequest } from './placer.ts'
import { type RunningAnswer, type RunningAnswers, roomFor, type Takeover } from './running-answer.ts'
import type { Site } from './site.ts'

const log = logger('edgeshard:plan')

export interface CutoverInit {
  site: Site
  /** The deployment where the answers run. */
  from: Deployment
  next: NextPlan
  /** What `from` was made for. */
  request: ReadyRequest
  reason: Move['reason']
  /**
   * When the answers go over: `level`, as soon as all are as far there; `lost`, when a device of `from` is lost and not before, those that
   * have asked for it (`Standbys`).
   *
   * @default 'level'
   */
  until?: 'level' | 'lost'
}

/**
 * One deployment that takes the place of another one while answers are drawn: its stages are recruited beside, every answer is
 * followed there (`Follower`), and when all are level they go over between two tokens, all of them together. Until each has
 * drawn a token there the old one is kept: if the new one dies, they go on where they were; if the old one dies first,
 * those that are followed go over at once. One that stands by for a loss is nothing else, and only waits for that.
 */
export class Cutover implements Takeover {
  readonly #components: DeployComponents
  readonly #placer: Placer
  readonly #running: RunningAnswers
  readonly #init: CutoverInit
  readonly #followers = new Map<RunningAnswer, Follower>()
  readonly #opening = new Set<RunningAnswer>()
  /** Aborts when it is given up. */
  readonly #given = new AbortController()
  readonly #startMs: number
  #reason: Move['reason']
  #until: 'level' | 'lost'
  #loadedAtMs = 0
  #next: Deployment | undefined
  #isOver = false
  /** Gives back what the answers have left. */
  #release: () => Promise<void> = async () => {}
  #wake = () => {}

  constructor(components: DeployComponents, placer: Placer, running: RunningAnswers, init: CutoverInit) {
    this.#components = components
    this.#placer = placer
    this.#running = running
    this.#init = init
    this.#reason = init.reason
    this.#until = init.until ?? 'level'
    this.#startMs = components.planning.now()
  }

  /** What stands by, once it is loaded. */
  get standby(): PlannedStage[] | undefined {
    return this.#init.until === 'lost' && this.#next !== undefined ? this.#init.next.stages : undefined
  }

  /** True when a stage on this device that the answers would go over to is held by that lease. */
  holds(leaseId: string): boolean {
    return this.#next?.holds(leaseId) === true
  }

  /** The answers are to go over as soon as they are level: what has stood by for a loss is wanted for something else. */
  promote(reason: Move['reason']): void {
    this.#reason = reason
    this.#until = 'level'
    this.#wake()
  }

  /** @returns whether the answers are on the next deployment now */
  async run(signal: AbortSignal): Promise<boolean> {
    const { from } = this.#init
    const onAbort = () => this.#give(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    const onChange = () => {
      // At once: what is lost is looked for nowhere else then.
      if (from.ended && this.#followers.size > 0) this.now()
      if (!this.#isThere) this.#give(new Error('where the answers run is over'))
      this.#wake()
    }
    const unwatch = from.watch(onChange)
    this.#running.events.on('change', onChange)
    try {
      signal.throwIfAborted()
      await this.#recruit()
      await this.#level()
      if (!this.now()) throw new Error('one of the placements is over')
      return await this.#settled()
    } catch (error) {
      // It was taken over while it was given up.
      if (this.#isOver) return await this.#settled()
      log.info('answers stay where they are: the next placement was not ready for them', {
        error: messageOf(this.#given.signal.reason ?? error)
      })
      await this.#discard()
      return false
    } finally {
      unwatch()
      this.#running.events.off('change', onChange)
      signal.removeEventListener('abort', onAbort)
      for (const running of this.#followers.keys()) running.mayBeTakenOver(undefined)
    }
  }

  now(): boolean {
    const { site, from, request, next: plan } = this.#init
    const next = this.#next
    if (this.#isOver) return true
    if (next === undefined || next.ended || site.deployment !== from || this.#isLostToo) return false
    const all = [...this.#followers]
    const levels = all.filter(([{ signal }, { failure }]) => failure === undefined && !signal.aborted)
    if (from.ended && levels.length === 0) return false
    this.#isOver = true
    this.#placer.adopt(next, request)
    this.#release = site.exchange(next, request)
    const catchUpMs = this.#components.planning.now() - this.#loadedAtMs
    const unwanted = log.passOver('what nobody reads was not ended; its lease ends it')
    for (const each of all) if (!levels.includes(each)) void each[1].close().catch(unwanted)
    const spent = { loadMs: this.#loadedAtMs - this.#startMs, catchUpMs, gapMs: 0 }
    for (const [running, follower] of levels) {
      const move: Move = {
        reason: this.#reason,
        from: running.plan.stages,
        to: plan.stages,
        tokens: 0,
        predicted: plan.predicted,
        spent
      }
      follower.goAlone()
      const { signal } = running
      const opened = { deployment: next, answer: follower, planMs: 0, signal, move }
      running.leadTo({ running: this.#running.begin(site, running.request, opened), follower })
    }
    log.info('answers go over to another placement', () => ({
      reason: this.#reason,
      answers: levels.length,
      from: devicesOf(from.plan.stages),
      to: devicesOf(plan.stages),
      ...plan.predicted,
      ...spent
    }))
    this.#wake()
    return true
  }

  /** True while the deployment that is to be left is the site's, and well. */
  get #isThere(): boolean {
    const { site, from } = this.#init
    return this.#isOver || (site.deployment === from && !from.ended)
  }

  /** What has ended the one is part of the other, which is about to hear of it. */
  get #isLostToo(): boolean {
    const { from, next } = this.#init
    const { lostPeerIds } = from
    return next.stages.some(({ peerId }) => lostPeerIds.has(peerId))
  }

  #give(reason: Error): void {
    if (!this.#isOver) this.#given.abort(reason)
    this.#wake()
  }

  async #recruit(): Promise<void> {
    const { from, next, request } = this.#init
    const { recruiter } = this.#components
    const { id: modelId, manifest } = request.model
    const { slots, contextTokens } = from
    const { stages, microBatches, expected: predicted } = next
    const recruited = await recruiter.recruit(
      { modelId, manifest, stages, slots, contextTokens, lanes: lanesFor(request, slots), waitMs: 0 },
      { signal: this.#given.signal, onProgress() {} }
    )
    this.#loadedAtMs = this.#components.planning.now()
    this.#next = new Deployment(this.#components, {
      modelId,
      vocabSize: manifest.shape.vocabSize,
      hiddenSize: manifest.shape.hiddenSize,
      hasState: hasState(manifest.shape),
      mayCut: cutsOf(manifest.shape),
      predicted,
      stages: recruited,
      contextTokens,
      slots,
      microBatches: Math.min(slots, microBatches),
      strategy: request.placement.strategy ?? 'no-bubble',
      promptsFirst: request.objective === 'throughput',
      onSlow: this.#placer.onSlow(request)
    })
  }

  /** Waits until every answer is as far on the next deployment. @throws {Error} where it is given up */
  async #level(): Promise<void> {
    const next = this.#next!
    const { from } = this.#init
    const unwatch = next.watch(() => this.#wake())
    const { now } = this.#components.planning
    const { stepFactor } = this.#init.next
    const isLevel = ({ answer: { measured } }: RunningAnswer, follower: Follower | undefined) =>
      follower?.isLevel(stepFactor * measured.observed.stepMs) === true
    let least = Number.POSITIVE_INFINITY
    let leastAtMs = now()
    try {
      for (;;) {
        if (this.#isOver) return
        this.#given.signal.throwIfAborted()
        if (next.ended) throw next.failure ?? new Error('the next placement is over')
        const stands = this.#until === 'lost'
        const answers = this.#running.on(from).filter(({ request }) => !stands || request.standby === true)
        for (const running of answers) this.#follow(running, next)
        const followed = answers
          .filter(({ signal }) => !signal.aborted)
          .map(each => [each, this.#followers.get(each)] as const)
        const failed = followed.find(([, follower]) => follower?.failure !== undefined)?.[1]
        if (failed !== undefined) throw failed.failure
        // Those that are being opened count as well: nobody is left behind.
        const level = followed.every(pair => isLevel(...pair))
        if (!stands && level && from.active === followed.length) return
        const behind = [...this.#followers.values()].reduce((sum, { behindTokens }) => sum + behindTokens, 0)
        if (behind < least) {
          least = behind
          leastAtMs = now()
        }
        if (stands) leastAtMs = now()
        if (now() - leastAtMs > CUTOVER_PATIENCE_MS) throw new Error('its answers do not catch up')
        await this.#woken(CUTOVER_PATIENCE_MS)
      }
    } finally {
      unwatch()
    }
  }

  /** Resolves when something has changed, or the time has come to look again whether anything does. */
  async #woken(withinMs: number): Promise<void> {
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, withinMs)
      this.#wake = () => {
        clearTimeout(timer)
        resolve()
      }
    })
    this.#wake = () => {}
  }

  /** Begins to draw an answer on the next deployment too, and ends that where the answer has ended. */
  #follow(running: RunningAnswer, next: Deployment): void {
    if (this.#opening.has(running) || running.request.pooling !== undefined) return
    // What had a slot there ends a moment later there than here: its end wakes this once more.
    if (next.full) return
    this.#opening.add(running)
    void this.#open(running, next).catch(error => {
      if (!running.signal.aborted) this.#give(error as Error)
    })
  }

  async #open(running: RunningAnswer, next: Deployment): Promise<void> {
    const { request, answer } = running
    const { prompt, ends, sampling, scope, exact, draft, grammar, requestId } = request
    const { certain: lead, runs } = answer
    const known = lead.ids
    const maxTokens = roomFor(request, next) - known.length
    if (maxTokens <= 0) return
    const kept = { prompt, known, maxTokens, ends, sampling, scope, exact, runs }
    const followed = await next.open(
      { ...kept, predicted: next.predicted, requestId, draft, grammar, lead },
      AbortSignal.any([this.#given.signal, running.signal])
    )
    const follower = new Follower(followed, lead, known.length)
    if (this.#isOver || this.#given.signal.aborted || running.ended) {
      await follower.close()
      return
    }
    follower.watch(() => this.#wake())
    this.#followers.set(running, follower)
    running.mayBeTakenOver(this)
    const unended = log.passOver('what follows an answer that has ended was not ended; its lease ends it')
    running.onEnd(() => void this.#left(running, follower).catch(unended))
    this.#wake()
  }

  /** The answer that is followed has ended. */
  async #left(running: RunningAnswer, follower: Follower): Promise<void> {
    if (this.#isOver) return
    this.#followers.delete(running)
    await follower.close()
    this.#wake()
  }

  /** Waits until the answers have gone over. @returns false where they are back on the deployment that they were to leave */
  async #settled(): Promise<boolean> {
    const { site, from, request } = this.#init
    const next = this.#next!
    const { now } = this.#components.planning
    const untilMs = now() + CUTOVER_GRACE_MS
    const unwatch = [next, from].map(deployment => deployment.watch(() => this.#wake()))
    try {
      while (this.#running.on(from).length > 0 && now() < untilMs) {
        if (next.ended || from.ended) break
        await this.#woken(untilMs - now())
      }
    } finally {
      for (const end of unwatch) end()
    }
    const left = this.#running.on(from)
    if (next.ended && !from.ended && left.length > 0 && site.deployment === next) {
      for (const running of left) running.stay()
      await site.exchange(from, request)()
      return false
    }
    // Those that could not go over come back for a place; those that have not been read go over when they are.
    if (left.length > 0) from.fail(this.#leftBehind)
    await this.#release()
    return true
  }

  get #leftBehind(): StageHandedOverError {
    const { from, next } = this.#init
    const there = new Set(next.stages.map(({ peerId }) => peerId))
    const { stages } = from.plan
    const { peerId, name, layers } = stages.find(stage => !there.has(stage.peerId)) ?? stages.at(-1)!
    return new StageHandedOverError(
      `stage handed over: ${name} (${peerId}) with layers [${layers[0]}, ${layers[1]}) was left by the answers that could`,
      peerId
    )
  }

  async #discard(): Promise<void> {
    this.#given.abort(new Error('the move was given up'))
    await Promise.allSettled([...this.#followers.values()].map(follower => follower.close()))
    await this.#next?.release()
  }
}
