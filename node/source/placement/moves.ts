import { logger } from '../../../models/log.ts'
import type { Move } from '../../api.ts'
import {
  MOVE_AGAIN_MS,
  MOVE_FAILED_REST_MS,
  MOVE_FIGURES_MS,
  MOVE_FIGURES_SHARE,
  MOVE_LOOK_MS,
  MOVE_NEWS_MS,
  MOVE_REST_MS
} from '../../constants.ts'
import { delay } from '../../delay.ts'
import { devicesOf } from '../request/request-log.ts'
import { isWorthIt, type NextPlan, planBeside } from './beside.ts'
import { Cutover } from './cutover.ts'
import type { DeployComponents } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import { LookBudget } from './look-budget.ts'
import type { Placer, ReadyRequest } from './placer.ts'
import { isPrescribed } from './planning.ts'
import type { RunningAnswers } from './running-answer.ts'
import { changedDevices, seenDevices, seenMesh } from './seen-mesh.ts'
import type { Site } from './site.ts'
import type { Standbys } from './standbys.ts'

const log = logger('edgeshard:plan')

/** What was found of a deployment when it was last looked at. */
interface Looked {
  /** The devices and links as they were, and the devices alone. */
  mesh: string
  devices: ReadonlyMap<string, string>
  /** The devices of a better place, where one was found: so it was the look before last, too, if one is found again. */
  better: readonly string[] | undefined
  /** When what has changed of times and links alone is looked at again. */
  figuresAtMs: number
}

/**
 * Moves running answers to where they are drawn sooner, or away from where a device is to go, without a pause. A place has to
 * be better in two looks in a row, clearly, and worth what the move costs; after a move comes a rest.
 */
export class Moves {
  readonly #components: DeployComponents
  readonly #placer: Placer
  readonly #running: RunningAnswers
  readonly #standbys: Pick<Standbys, 'promote' | 'without'>
  readonly #watched = new Set<Site>()
  /** Whether it has come to anything, by site. */
  readonly #moving = new Map<Site, Promise<boolean>>()
  /** Sites for which a better place is being looked for: nobody who has to move them waits for that. */
  readonly #looking = new Set<Site>()
  readonly #looked = new WeakMap<Deployment, Looked>()
  readonly #budgets = new WeakMap<Site, LookBudget>()
  /** Deployments for which a better place was found, and that wait for the second look. */
  readonly #again = new WeakSet<Deployment>()
  /** The time until which no site is moved for speed. */
  readonly #restsUntilMs = new WeakMap<Site, number>()
  readonly #closing = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #news: NodeJS.Timeout | undefined

  constructor(
    components: DeployComponents,
    placer: Placer,
    running: RunningAnswers,
    standbys: Pick<Standbys, 'promote' | 'without'>
  ) {
    this.#standbys = standbys
    this.#components = components
    this.#placer = placer
    this.#running = running
  }

  /** Looks for a better place for what runs at a site, again and again, as long as anything does. */
  watch(site: Site): void {
    const { deployment } = site
    // It was placed for the mesh of now.
    if (deployment !== undefined && !this.#looked.has(deployment))
      this.#looked.set(deployment, {
        mesh: seenMesh(this.#components.planning, site.modelId),
        devices: seenDevices(this.#components.planning, site.modelId),
        better: undefined,
        figuresAtMs: Number.NEGATIVE_INFINITY
      })
    this.#watched.add(site)
    this.#timer ??= setInterval(() => this.#lookAtAll(), MOVE_LOOK_MS).unref()
  }

  /** The directory has changed: what runs is looked at soon, once for all that changes until then. */
  look(): void {
    if (this.#watched.size === 0 || this.#closing.signal.aborted) return
    this.#news ??= setTimeout(() => {
      this.#news = undefined
      this.#lookAtAll()
    }, MOVE_NEWS_MS).unref()
  }

  /** Moves nothing any more. */
  close(): void {
    clearInterval(this.#timer)
    clearTimeout(this.#news)
    this.#closing.abort(new Error('the node is stopping'))
  }

  /**
   * Moves the answers of a deployment of which a device is to go, where the others have room for it beside.
   *
   * @returns false where they have not, or it went wrong
   */
  async leave(site: Site, deployment: Deployment): Promise<boolean> {
    // What is on its way leaves the device, or can be moved once more; a pause it would be to go another way.
    await this.#moving.get(site)?.catch(log.passOver('a move failed; the device is left by another one'))
    if (site.deployment !== deployment) return true
    const request = this.#placer.placedFor(deployment)
    if (request === undefined || deployment.active === 0) return false
    const without = new Set([...this.#placer.left(request), ...this.#components.planning.draining])
    return await this.#goWithout(site, deployment, request, without, 'drained')
  }

  /**
   * Moves the answers of a deployment one of whose devices has turned slow.
   *
   * @returns true where they have moved, or are on their way already
   */
  async spare(deployment: Deployment, peerId: string): Promise<boolean> {
    const site = [...this.#watched].find(watched => watched.deployment === deployment)
    const request = this.#placer.placedFor(deployment)
    if (site === undefined || request === undefined) return false
    if (this.#moving.has(site)) return true
    const without = new Set([...this.#placer.left(request), peerId])
    return await this.#goWithout(site, deployment, request, without, 'faster')
  }

  /** Moves to what stands by, where none of the devices to leave is part of it, else to what the memory has room for beside. */
  async #goWithout(
    site: Site,
    deployment: Deployment,
    request: ReadyRequest,
    without: ReadonlySet<string>,
    reason: Move['reason']
  ): Promise<boolean> {
    if (await this.#standbys.promote(site, without, reason)) return true
    return await this.#standbys.without(site, async () => {
      const next = await this.#planBeside(deployment, request, without)
      if (next === undefined || this.#moving.has(site) || site.deployment !== deployment) return false
      return await this.#move(site, deployment, request, next, reason)
    })
  }

  #lookAtAll(): void {
    for (const site of this.#watched) {
      const { deployment } = site
      if (deployment === undefined || deployment.active === 0) this.#watched.delete(site)
      else
        void this.#lookTwice(site, deployment).catch(
          log.passOver('no better place was found for running answers; they stay')
        )
    }
    if (this.#watched.size > 0) return
    clearInterval(this.#timer)
    this.#timer = undefined
  }

  /** Looks, and where a better place was found that was none before once more. */
  async #lookTwice(site: Site, deployment: Deployment): Promise<void> {
    // Whatever has changed, the second look is no sooner.
    if (this.#again.has(deployment)) return
    const wasBetter = this.#looked.get(deployment)?.better !== undefined
    await this.#look(site, deployment)
    const better = this.#looked.get(deployment)?.better
    if (wasBetter || better === undefined || this.#again.has(deployment)) return
    this.#again.add(deployment)
    try {
      const { signal } = this.#closing
      // The first look has supposed of a device that has just joined what the second one knows.
      const glance = this.#components.planning.glance(better, signal)
      await Promise.all([delay(MOVE_AGAIN_MS, signal, { ref: false }), glance])
    } finally {
      this.#again.delete(deployment)
    }
    if (site.deployment === deployment && deployment.active > 0)
      await this.#look(site, deployment, { isSecond: true })
  }

  async #look(site: Site, deployment: Deployment, { isSecond = false } = {}): Promise<void> {
    const { planning } = this.#components
    const request = this.#placer.placedFor(deployment)
    if (request === undefined || deployment.ended || this.#moving.has(site) || this.#looking.has(site)) return
    if (isPrescribed(request) || planning.now() < (this.#restsUntilMs.get(site) ?? 0)) return
    const before = this.#looked.get(deployment)
    if (before === undefined) return
    const startMs = planning.now()
    const devices = seenDevices(planning, site.modelId)
    if (!isSecond && startMs < before.figuresAtMs) {
      const changed = changedDevices(before.devices, devices)
      if (!this.#budgetOf(site).take(changed, startMs)) return
    }
    const mesh = seenMesh(planning, site.modelId)
    if (before.mesh === mesh && before.better === undefined) return
    this.#looking.add(site)
    let next: NextPlan | undefined
    try {
      next = await this.#planBeside(deployment, request, this.#placer.left(request))
    } finally {
      this.#looking.delete(site)
    }
    const better = next !== undefined && isWorthIt(next) ? next : undefined
    const tookMs = planning.now() - startMs
    const figuresAtMs = startMs + Math.max(MOVE_FIGURES_MS, tookMs / MOVE_FIGURES_SHARE)
    this.#looked.set(deployment, {
      ...{ mesh, devices, figuresAtMs },
      better: better?.stages.map(({ peerId }) => peerId)
    })
    if (better === undefined) return
    log.debug('running answers would be drawn sooner elsewhere', () => ({
      to: devicesOf(better.stages),
      again: before.better !== undefined,
      ...better.predicted
    }))
    // A device that is to go may have begun to be left meanwhile.
    const isLeft = site.deployment !== deployment || deployment.ended || this.#moving.has(site)
    if (before.better === undefined || isLeft) return
    await this.#standbys.without(site, () => this.#move(site, deployment, request, better, 'faster'))
  }

  #budgetOf(site: Site): LookBudget {
    const budget = this.#budgets.get(site) ?? new LookBudget()
    this.#budgets.set(site, budget)
    return budget
  }

  /** Guesses are made ahead of one answer that runs alone: they are that one's. */
  async #planBeside(
    deployment: Deployment,
    request: ReadyRequest,
    without: ReadonlySet<string>
  ): Promise<NextPlan | undefined> {
    const [only, ...others] = this.#running.on(deployment)
    const guesses = others.length === 0 ? only?.request.guesses : undefined
    const { answers } = deployment
    const needs = { ...request, guesses }
    return await planBeside(this.#components.planning, needs, deployment, { answers, without })
  }

  async #move(
    site: Site,
    from: Deployment,
    placedFor: ReadyRequest,
    next: NextPlan,
    reason: Move['reason']
  ): Promise<boolean> {
    const moving = this.#moved(site, from, placedFor, next, reason).finally(() => this.#moving.delete(site))
    this.#moving.set(site, moving)
    return await moving
  }

  async #moved(
    site: Site,
    from: Deployment,
    placedFor: ReadyRequest,
    next: NextPlan,
    reason: Move['reason']
  ): Promise<boolean> {
    const { planning } = this.#components
    // Nothing of the request that it was placed for is lost with it any more.
    const request = { ...placedFor, known: [], begun: false, lost: undefined, requestId: undefined }
    const cutover = new Cutover(this.#components, this.#placer, this.#running, {
      ...{ site, from, next, request, reason }
    })
    const moved = await cutover.run(this.#closing.signal)
    this.#restsUntilMs.set(site, planning.now() + (moved ? MOVE_REST_MS : MOVE_FAILED_REST_MS))
    return moved
  }
}
