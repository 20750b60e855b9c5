import { logger } from '../../../models/log.ts'
import { RemoteError } from '../../../protocols/errors.ts'
import { MAX_HOLDERS } from '../../../protocols/lease/constants.ts'
import type { NodeRecord } from '../../api.ts'
import {
  PREFETCH_LINK_SHARE,
  PREFETCH_SOURCE_SHARE,
  SPARE_LOOK_MS,
  SPARE_READY_MS,
  SPARE_REFUSED_MS
} from '../../constants.ts'
import { holdersOf, type Peers } from '../../mesh/peers.ts'
import { lanesFor } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import { KeptSpares } from './kept-spares.ts'
import { type LikelyStage, likelyStages } from './likely-stages.ts'
import { loadDeadlineMs } from './load-deadline.ts'
import { nearestFirst } from './nearest.ts'
import type { Placer, ReadyRequest } from './placer.ts'
import type { Planning } from './planning.ts'
import type { Site } from './site.ts'

const log = logger('edgeshard:source')

export interface SparesComponents {
  peers: Pick<Peers, 'peerId' | 'self' | 'known' | 'links' | 'lease'>
  planning: Planning
}

/**
 * Has the devices that would take the place of one that dies fetch the weights for it beforehand, and load them where they have memory that
 * nobody holds, so that a loss costs no download, and no load as a rule: what they would need is the planner's to say (`likelyStages`), and
 * whether and when it comes is theirs (`node/weights/prefetches.ts`, `node/stage/warm-shards.ts`). One device at a time is asked, each for
 * one range.
 */
export class Spares {
  readonly #components: SparesComponents
  readonly #placer: Pick<Placer, 'placedFor' | 'left'>
  readonly #sites = new Set<Site>()
  /** The plan and the devices, with their layers and whether they were left, as they were when nothing more was to be asked. */
  readonly #settled = new WeakMap<Deployment, string>()
  /** The layers that devices have been asked to have ready for a deployment. */
  readonly #asked = new WeakMap<Deployment, Set<string>>()
  readonly #kept = new KeptSpares()
  /** Devices that said no, and until when they are not asked again. */
  readonly #refusedUntilMs = new Map<string, number>()
  readonly #closing = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #isLooking = false

  constructor(components: SparesComponents, placer: Pick<Placer, 'placedFor' | 'left'>) {
    this.#components = components
    this.#placer = placer
  }

  /** Looks after a site's spares from now on, as long as it has a deployment. */
  watch(site: Site): void {
    if (this.#closing.signal.aborted) return
    this.#sites.add(site)
    this.#timer ??= setInterval(() => this.#lookAtAll(), SPARE_LOOK_MS).unref()
  }

  /** Asks nobody any more. */
  close(): void {
    clearInterval(this.#timer)
    this.#closing.abort(new Error('the node is stopping'))
    this.#kept.close()
  }

  #lookAtAll(): void {
    for (const site of this.#sites) if (site.deployment === undefined) this.#sites.delete(site)
    const used = new Set(
      [...this.#sites].filter(site => !hasRested(site)).map(({ deployment }) => deployment)
    )
    this.#kept.look(deployment => used.has(deployment))
    if (this.#sites.size === 0 && this.#kept.size === 0) {
      clearInterval(this.#timer)
      this.#timer = undefined
    }
    if (this.#isLooking) return
    this.#isLooking = true
    void this.#look([...this.#sites])
      .catch(log.passOver('a spare was not made ready; a loss would cost it a download'))
      .finally(() => {
        this.#isLooking = false
      })
  }

  async #look(sites: readonly Site[]): Promise<void> {
    for (const site of sites) {
      const { deployment } = site
      const request = deployment && this.#placer.placedFor(deployment)
      if (deployment === undefined || request === undefined || deployment.ended || !deployment.used) continue
      const isRested = hasRested(site)
      if (isRested) this.#asked.delete(deployment)
      const mesh = JSON.stringify([this.#mesh(deployment, request), isRested])
      if (this.#settled.get(deployment) === mesh) continue
      const next = await this.#nextFor(deployment, request, isRested)
      if (next === undefined) this.#settled.set(deployment, mesh)
      else await this.#ask(next, deployment, request)
      this.#closing.signal.throwIfAborted()
    }
  }

  /** The range that is to be asked for next. */
  async #nextFor(
    deployment: Deployment,
    request: ReadyRequest,
    isRested: boolean
  ): Promise<LikelyStage | undefined> {
    const { planning } = this.#components
    if (!planning.candidates().peers.some(({ record }) => prefetchesAny(record))) return undefined
    // Nothing of the request that it was placed for is lost with it any more.
    const needs = { ...request, known: [], begun: false, lost: undefined, requestId: undefined }
    const likely = await likelyStages(planning, deployment, { ...needs, avoid: this.#placer.left(needs) })
    return likely.find(stage => (!isRested || stage.missingBytes > 0) && this.#mayAsk(stage, deployment))
  }

  #mayAsk(stage: LikelyStage, deployment: Deployment): boolean {
    const { peerId, missingBytes } = stage
    const { planning } = this.#components
    if (planning.now() < (this.#refusedUntilMs.get(peerId) ?? 0)) return false
    const record = planning.candidate(peerId)?.record
    if (record === undefined || !prefetchesAny(record)) return false
    // What is there already it is asked for once, to have it ready.
    if (missingBytes === 0) return this.#asked.get(deployment)?.has(keyOf(stage)) !== true
    return missingBytes <= PREFETCH_SOURCE_SHARE * record.prefetch!.quotaBytes
  }

  async #ask(stage: LikelyStage, deployment: Deployment, request: ReadyRequest): Promise<void> {
    const { peerId, layers, missingBytes } = stage
    const { model } = request
    const { peers, planning } = this.#components
    const { signal } = this.#closing
    // How fast they may come is a share of what the link takes.
    await planning.measure(signal)
    const holders = nearestFirst([peers.peerId, ...holdersOf(peers, model.id)], peerId, peers.links)
    const lease = await peers
      .lease(peerId, { signal })
      .catch(log.passOver('a spare was not reached', { peerId }))
    if (lease === undefined) return this.#refused(peerId)
    let isKept = false
    try {
      const range: [number, number] = [...layers]
      const asked = { modelId: model.id, range, maxTokens: 1, sessions: 1, prefetch: true }
      const reply = await lease.reserve(asked, { signal })
      if (reply.type === 'refused') throw new RemoteError(peerId, reply.code, reply.reason)
      const { leaseId } = reply
      log.debug('a spare fetches what it would need', () => ({
        ...{ peerId, missingBytes },
        layers: `[${layers[0]}, ${layers[1]})`
      }))
      const neighbours = { previous: peers.peerId, next: peers.peerId }
      const load = { peerId, bytes: missingBytes, allBytes: missingBytes / PREFETCH_LINK_SHARE, holders }
      const timeoutMs = loadDeadlineMs(load, peers.links)
      const lanes = lanesFor(request, deployment.slots)
      await lease.load(
        { leaseId, ...neighbours, holders: holders.slice(0, MAX_HOLDERS), lanes },
        { signal, timeoutMs }
      )
      isKept = true
      this.#kept.keep({ deployment, lease, leaseId })
      const ready = this.#asked.get(deployment) ?? new Set()
      this.#asked.set(deployment, ready.add(keyOf(stage)))
    } catch (error) {
      log.debug('a spare has not what it would need', () => ({ peerId, error: String(error) }))
      this.#refused(peerId)
    } finally {
      if (!isKept) lease.end()
    }
    // It says that it has them a moment later: until then nothing more is asked of it.
    const { now } = planning
    this.#refusedUntilMs.set(peerId, Math.max(this.#refusedUntilMs.get(peerId) ?? 0, now() + SPARE_LOOK_MS))
  }

  #refused(peerId: string): void {
    this.#refusedUntilMs.set(peerId, this.#components.planning.now() + SPARE_REFUSED_MS)
  }

  /** What another plan, or another answer of a spare, would follow from. */
  #mesh({ plan }: Deployment, request: ReadyRequest): string {
    const { model } = request
    const { planning } = this.#components
    const nowMs = planning.now()
    const devices = planning.candidates().peers.map(({ record: { peerId, models, prefetch } }) => {
      const layers = models.find(({ id }) => id === model.id)?.layers ?? []
      const isRefused = nowMs < (this.#refusedUntilMs.get(peerId) ?? 0)
      return [peerId, layers, prefetch?.quotaBytes, isRefused]
    })
    // A device may have taken the place of another one that is there still.
    const placed = plan.stages.map(({ peerId, layers }) => [peerId, layers])
    const left = [...this.#placer.left(request)].sort()
    return JSON.stringify([placed, left, devices])
  }
}

/** Whether nothing need be loaded for a site any more: its last answer was long ago. */
function hasRested({ restingSinceMs }: Site): boolean {
  return restingSinceMs !== undefined && performance.now() - restingSinceMs > SPARE_READY_MS
}

/** Whether a device keeps weights for the case that it takes the place of another one. */
function prefetchesAny({ prefetch }: Pick<NodeRecord, 'prefetch'>): boolean {
  return (prefetch?.quotaBytes ?? 0) > 0
}

function keyOf({ peerId, layers }: LikelyStage): string {
  return `${peerId} ${layers.join(' ')}`
}
