import { logger } from '../../../models/log.ts'
import type { GenerateEvent } from '../../api.ts'
import { BEGUN_FIRST_MS, RECONSIDER_MS } from '../../constants.ts'
import { delay } from '../../delay.ts'
import { BusyError } from '../../errors.ts'
import type { SlotRequest } from '../pipeline/kv-slots.ts'
import type { SlowStage } from '../pipeline/slowness.ts'
import { type DeployComponents, type DeployRequest, deploy } from './deploy.ts'
import type { Deployment } from './deployment.ts'
import type { Distrust } from './distrust.ts'
import { fitsElsewhere, worthMoving } from './improvement.ts'
import type { Turn } from './line.ts'
import type { Planning } from './planning.ts'
import { repair } from './repair.ts'
import type { Site } from './site.ts'
import type { SlowPeers } from './slow-peers.ts'

const log = logger('edgeshard:source')

export interface PlacerComponents extends DeployComponents {
  distrust: Distrust
}

export interface ReadyRequest extends DeployRequest, SlotRequest {}

/** A request that opens its session: no other one of its site does meanwhile, unless it lets them. */
export interface Opening {
  turn: Turn
  signal: AbortSignal
  emit: (event: GenerateEvent) => void
}

/** A deployment that serves a request. */
export interface Ready {
  deployment: Deployment
  planMs: number
  /** What fetching and loading its stages was to take; absent where they were loaded. */
  loadMs?: number
  /** When its stages were asked for; absent where they were loaded. */
  askedAtMs?: number
}

/** Finds a site's deployment ready, makes it so, or places the model anew. */
export class Placer {
  readonly #components: PlacerComponents
  readonly #slow: SlowPeers
  /** When a deployment was last found to be the best there is. */
  readonly #checkedAtMs = new WeakMap<Deployment, number>()
  /** Those that nothing is asked of any more: a device computes something else there, and the others can do without. */
  readonly #wrong = new WeakSet<Deployment>()

  /** What each was made for: what is to be placed in its stead has to do for the same. */
  readonly #placedFor = new WeakMap<Deployment, ReadyRequest>()

  constructor(components: PlacerComponents, slow: SlowPeers) {
    this.#components = components
    this.#slow = slow
  }

  /** Takes a deployment in that was made elsewhere for what another one was made for. */
  adopt(deployment: Deployment, request: ReadyRequest): void {
    this.#checkedAtMs.set(deployment, this.#components.planning.now())
    // Others are served there by then.
    this.#placedFor.set(deployment, { ...request, yields: false })
  }

  /** What is left of a deployment whose stage has turned slow is the others'. */
  onSlow(request: ReadyRequest): (slow: Deployment, stage: SlowStage) => void {
    return (slow, stage) =>
      void this.#slow
        .leave(slow, this.#leaving(request), stage)
        .catch(log.of(request.requestId).passOver('no better placement was found for a slow one; it goes on'))
  }

  /** Devices that are taken last for a request. */
  left(request: ReadyRequest): ReadonlySet<string> {
    return this.#leaving(request).avoid
  }

  /** What a deployment was made for. */
  placedFor(deployment: Deployment): ReadyRequest | undefined {
    return this.#placedFor.get(deployment)
  }

  /** A deployment that serves the request and has a slot to spare: the one that is there, repaired, or a new one. */
  async ready(site: Site, request: ReadyRequest, { turn, signal, emit }: Opening): Promise<Ready> {
    let planMs = 0
    let waitedFor: Deployment | undefined
    let tooSmall: Deployment | undefined
    for (;;) {
      await turn.letBegunPass(signal)
      const current = site.deployment
      // An answer that lost a stage there comes back for what is left of it, and goes first.
      if (current?.ended && request.known.length === 0 && waitedFor !== current) {
        waitedFor = current
        await delay(BEGUN_FIRST_MS, signal)
        continue
      }
      const broken = site.broken(request)
      if (broken !== undefined) {
        await broken.closeSessions()
        const repaired = await repair(this.#components, broken, this.#leaving(request), { signal, emit })
        planMs += repaired.planMs
        if (repaired.done) return { deployment: broken, planMs }
      }
      const serving = site.serving(request)
      const serves = serving !== undefined && !(await this.#outdated(serving, request))
      if (serves && !serving.full && !serving.ended) return { deployment: serving, planMs }
      if (request.lost === undefined && tooSmall !== current && site.isTooSmallFor(request)) {
        tooSmall = current
        planMs += await this.#checkRoom(request, signal)
        continue
      }
      // No answer is sent away for the sake of another request.
      if (current !== undefined && !current.ended && current.active > 0) {
        if (request.yields === true) {
          throw new BusyError(
            'answers are being drawn where the model is; it is loaded otherwise once they have ended'
          )
        }
        await current.changed(signal)
        continue
      }
      if (serves) continue
      const replaced = await this.#replace(site, request, { signal, emit })
      return { ...replaced, planMs: planMs + replaced.planMs }
    }
  }

  /**
   * The request, with the peers of now that have been left, which are the last to be taken. Those that are being drained are
   * well, so they are the first of these; who has not begun does without them.
   */
  #leaving<R extends ReadyRequest>(request: R): R {
    const { leftPeerIds } = this.#components.distrust
    const begun = hasBegun(request)
    const draining = begun ? this.#components.planning.draining : []
    const others = [...request.avoid].filter(peerId => !leftPeerIds.includes(peerId))
    return { ...request, begun, avoid: new Set([...draining, ...others, ...leftPeerIds]) }
  }

  /**
   * What fits nowhere is refused before a deployment is given up for it: that serves a shorter answer at once, with what is in
   * its KV caches.
   *
   * @returns the time that it took, in ms
   * @throws {PlanRefusedError}
   */
  async #checkRoom(request: ReadyRequest, signal: AbortSignal): Promise<number> {
    const { planning } = this.#components
    const startMs = planning.now()
    const { avoid, ...needs } = this.#leaving(request)
    const history = { refused: new Set<string>(), failed: new Set<string>(), failure: undefined, avoid }
    // Late peers had their chance when the deployment was made.
    await planning.plan({ ...needs, isHasty: true }, history, { signal })
    return planning.now() - startMs
  }

  /** Places the model again; what stays where it is stays loaded. */
  async #replace(site: Site, request: ReadyRequest, { signal, emit }: Omit<Opening, 'turn'>): Promise<Ready> {
    // An answer that goes on elsewhere takes no room from those that went on beside it.
    const contextTokens = request.known.length > 0 ? site.deployment?.contextTokens : undefined
    const { deployment: before } = site
    const replaced = before?.plan.stages
    const releaseBefore = await site.retire()
    try {
      // Leases on which no session came to be make no room: the next ones would wait for them.
      if (before?.used === false) await releaseBefore()
      const needs = {
        ...this.#leaving(request),
        replaced,
        ...(contextTokens !== undefined && { contextTokens })
      }
      const onSlow = this.onSlow(request)
      const made = await deploy(this.#components, needs, { signal, emit, onSlow })
      const { deployment } = made
      this.adopt(deployment, request)
      site.put(deployment, request)
      return made
    } finally {
      void releaseBefore()
    }
  }

  /**
   * True when no request uses the deployment and another one would be worth the move; or, also while some do, when a device
   * of it is left for wrong answers and the model fits without: then the next request waits for these.
   */
  async #outdated(deployment: Deployment, request: ReadyRequest): Promise<boolean> {
    if (this.#wrong.has(deployment)) return true
    const { planning, distrust } = this.#components
    // Who has not begun waits until what runs there has been handed over.
    if (!hasBegun(request) && isDraining(planning, deployment)) return true
    const nowMs = planning.now()
    const checkedAtMs = this.#checkedAtMs.get(deployment) ?? 0
    const { plan, state, contextTokens } = deployment
    const wrongSinceMs = plan.stages.flatMap(({ peerId }) => distrust.wrongSinceMs(peerId) ?? [])
    if (deployment.active > 0 && wrongSinceMs.length === 0) return false
    const unseen = wrongSinceMs.some(sinceMs => sinceMs > checkedAtMs)
    if (nowMs - checkedAtMs < RECONSIDER_MS && !unseen) return false
    this.#checkedAtMs.set(deployment, nowMs)
    const needs = this.#leaving(request)
    if (wrongSinceMs.length > 0 && (await fitsElsewhere(planning, needs, plan.stages))) {
      this.#wrong.add(deployment)
      return true
    }
    if (deployment.active > 0) return false
    const held = {
      cachedTokens: deployment.cachedTokens(request),
      heldBeside: deployment.heldBeside(request)
    }
    return await worthMoving(planning, needs, { ...state, stages: plan.stages, contextTokens, ...held })
  }
}

/** Whether a client has been given something of the request that would be lost with the rest. */
function hasBegun({ known, begun = false }: ReadyRequest): boolean {
  return begun || known.length > 0
}

/** Whether a device of it is being drained. */
export function isDraining(
  planning: Pick<Planning, 'draining'>,
  { plan }: Pick<Deployment, 'plan'>
): boolean {
  return plan.stages.some(({ peerId }) => planning.draining.includes(peerId))
}
