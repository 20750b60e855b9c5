import { logger } from '../../../models/log.ts'
import type { Move, PlannedStage } from '../../api.ts'
import { FREED_SAID_MS, STANDBY_RETRY_MS } from '../../constants.ts'
import { delay } from '../../delay.ts'
import { type NextPlan, planBeside } from './beside.ts'
import { Cutover } from './cutover.ts'
import type { DeployComponents } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import type { Placer, ReadyRequest } from './placer.ts'
import type { RunningAnswers } from './running-answer.ts'
import type { Site } from './site.ts'

const log = logger('edgeshard:plan')

/** What stands by for a site's deployment, or is being built up for that. */
interface Standing {
  cutover: Cutover
  stages: PlannedStage[]
  given: AbortController
  /** Whether the answers have gone over to it. */
  over: Promise<boolean>
}

/**
 * Keeps, for sites whose answers ask for it, a second deployment beside the one that there is: the answers are drawn there too, by
 * the `Cutover` of moves, which here waits for a loss. All devices of it are others than those of the first one but this one,
 * where they have the memory; else as few of those as possible, and the loss of the largest stage is what it is for.
 */
export class Standbys {
  readonly #components: DeployComponents
  readonly #placer: Placer
  readonly #running: RunningAnswers
  /** Sites that are looked after. */
  readonly #kept = new Set<Site>()
  readonly #standing = new Map<Site, Standing>()
  /** How many want the memory of what stands by for a site for something else. */
  readonly #suspended = new Map<Site, number>()
  readonly #closing = new AbortController()

  constructor(components: DeployComponents, placer: Placer, running: RunningAnswers) {
    this.#components = components
    this.#placer = placer
    this.#running = running
  }

  /** Has something stand by for a site from now on, as long as it has a deployment. */
  watch(site: Site): void {
    if (this.#kept.has(site) || this.#closing.signal.aborted) return
    this.#kept.add(site)
    void this.#keep(site)
      .catch(log.passOver('nothing stands by for answers any more; a loss costs them a pause'))
      .finally(() => this.#kept.delete(site))
  }

  /** What is loaded and stands by for a site. */
  stagesOf(site: Site): PlannedStage[] | undefined {
    return this.#standing.get(site)?.cutover.standby
  }

  /**
   * Has the answers of a site go over to what stands by for it.
   *
   * @param without devices that are to be left
   * @returns false where nothing does, one of these is part of it, or it went wrong
   */
  async promote(site: Site, without: ReadonlySet<string>, reason: Move['reason']): Promise<boolean> {
    const standing = this.#standing.get(site)
    if (standing === undefined || standing.cutover.standby === undefined) return false
    if (standing.stages.some(({ peerId }) => without.has(peerId))) return false
    standing.cutover.promote(reason)
    return await standing.over
  }

  /** Does `work` while nothing stands by for a site, so that its memory is free for that. */
  async without<T>(site: Site, work: () => Promise<T>): Promise<T> {
    this.#suspended.set(site, (this.#suspended.get(site) ?? 0) + 1)
    try {
      const standing = this.#standing.get(site)
      if (standing !== undefined) {
        standing.given.abort(new Error('its memory is wanted for a move'))
        await standing.over
        await delay(FREED_SAID_MS, this.#closing.signal)
      }
      return await work()
    } finally {
      this.#suspended.set(site, this.#suspended.get(site)! - 1)
    }
  }

  /** Leaves devices that are being drained, where they only stand by: call whenever the directory has changed. */
  look(): void {
    const { draining } = this.#components.planning
    for (const { stages, given } of this.#standing.values()) {
      if (stages.some(({ peerId }) => draining.includes(peerId)))
        given.abort(new Error('a device that stands by is being drained'))
    }
  }

  /** A lease of this node's own had to make room: what stands by on it does no more. */
  evicted(leaseId: string): void {
    for (const { cutover, given } of this.#standing.values())
      if (cutover.holds(leaseId)) given.abort(new Error('its memory on this device was wanted by others'))
  }

  /** Nothing stands by any more; resolves when all of it is given back. */
  async close(): Promise<void> {
    this.#closing.abort(new Error('the node is stopping'))
    await Promise.allSettled([...this.#standing.values()].map(({ over }) => over))
  }

  async #keep(site: Site): Promise<void> {
    const { signal } = this.#closing
    for (;;) {
      const { deployment } = site
      if (deployment === undefined) return
      const isTaken = this.#mayStandBy(site, deployment) && (await this.#stand(site, deployment))
      if (!isTaken) await delay(STANDBY_RETRY_MS, signal, { ref: false })
    }
  }

  #mayStandBy(site: Site, deployment: Deployment): boolean {
    const isWanted = this.#running.on(deployment).some(({ request }) => request.standby === true)
    return isWanted && !deployment.ended && (this.#suspended.get(site) ?? 0) === 0
  }

  /** @returns true where the answers have gone over, so that something has to stand by for what has stood by */
  async #stand(site: Site, from: Deployment): Promise<boolean> {
    const placedFor = this.#placer.placedFor(from)
    if (placedFor === undefined) return false
    // Nothing of the request that it was placed for is lost with it any more.
    const request = { ...placedFor, known: [], begun: false, lost: undefined, requestId: undefined }
    const next = await this.#planned(from, request)
    if (next === undefined || site.deployment !== from || !this.#mayStandBy(site, from)) return false
    const init = { site, from, next, request, reason: 'lost', until: 'lost' } as const
    const cutover = new Cutover(this.#components, this.#placer, this.#running, init)
    const given = new AbortController()
    const over = cutover.run(AbortSignal.any([this.#closing.signal, given.signal]))
    const standing = { cutover, stages: next.stages, given, over }
    this.#standing.set(site, standing)
    try {
      return await over
    } finally {
      this.#standing.delete(site)
    }
  }

  async #planned(from: Deployment, request: ReadyRequest): Promise<NextPlan | undefined> {
    const { planning } = this.#components
    const source = planning.candidates().source.record.peerId
    const others = from.plan.stages.filter(({ peerId }) => peerId !== source)
    // Nobody stands by for this device, which has the prompt.
    if (others.length === 0) return undefined
    const left = this.#placer.left(request)
    const bySize = others.toSorted((a, b) => b.weightBytes - a.weightBytes)
    for (const lost of [others, ...bySize.map(stage => [stage])]) {
      const without = new Set([...left, ...lost.map(({ peerId }) => peerId)])
      const next = await planBeside(planning, request, from, { answers: from.answers, without })
      if (next !== undefined) return next
    }
    return undefined
  }
}
