import { EventEmitter } from 'node:events'
import type { GenerateEvent, Objective, PlacementOptions, Priority, Privacy } from '../../api.ts'
import { LOST_GRACE_MS, MAX_WAITING_REQUESTS, UNUSED_DEPLOYMENT_MS } from '../../constants.ts'
import { FOREVER_MS } from '../../duration.ts'
import { BusyError } from '../../errors.ts'
import type { Deployment } from './deployment.ts'
import { Line, type Turn } from './line.ts'

/** What a deployment is made for, beside the model and the objective. */
export interface Terms {
  promptTokens: number
  newTokens: number
  privacy: Privacy
  placement: PlacementOptions
}

/** The place of a model for one objective: its deployment, and the requests that wait for a session on it. */
export class Site {
  readonly modelId: string
  readonly objective: Objective
  /** What placing the model comes to, for those who stand in line behind whoever has it placed. */
  readonly events = new EventEmitter<{ placing: [event: GenerateEvent] }>()
  /** How long the deployment stays without a request; FOREVER_MS: until others need its memory. */
  keepAliveMs: number = FOREVER_MS
  /** Whether anybody had a name for the model when it was last asked for. */
  named = false
  /** Nobody has one any more: what runs goes on, and the leases are given back behind it. */
  #removed = false
  /** Since when no request has used the deployment, by any clock. */
  #restingSinceMs = 0
  #deployment: Deployment | undefined
  /** Earlier deployments, until the next one has taken over what they have loaded. */
  readonly #retired = new Set<Deployment>()
  #terms = ''
  readonly #line = new Line()
  #idle: NodeJS.Timeout | undefined
  readonly #onPut: (site: Site) => void

  /** @param onPut a deployment is there; one of its devices may have begun to be drained while it was made */
  constructor(modelId: string, objective: Objective, onPut: (site: Site) => void) {
    this.modelId = modelId
    this.objective = objective
    this.#onPut = onPut
    this.events.setMaxListeners(0)
  }

  /** Since when no request has used the deployment; undefined where there is none or one does. */
  get restingSinceMs(): number | undefined {
    return this.#isResting ? this.#restingSinceMs : undefined
  }

  get deployment(): Deployment | undefined {
    return this.#deployment
  }

  /** True where nothing is placed, and nobody is about to place it. */
  get isFree(): boolean {
    return this.#deployment === undefined && this.#line.length === 0
  }

  put(deployment: Deployment, terms: Terms): void {
    this.#deployment = deployment
    this.#terms = textOf(terms)
    deployment.events.on('lost', () => this.rest())
    this.#onPut(this)
  }

  /** The deployment, when a request can use it as it is. */
  serving(terms: Terms): Deployment | undefined {
    const deployment = this.#deployment
    if (deployment === undefined || deployment.ended) return undefined
    return this.#fits(terms) && !(deployment.wanted && deployment.active > 0) ? deployment : undefined
  }

  /** Whether a deployment is there as a request wants it, however many tokens it has room for, that has served one. */
  isLoadedFor(terms: Pick<Terms, 'privacy' | 'placement'>): boolean {
    const deployment = this.#deployment
    return deployment?.ended === false && deployment.used && textOf(terms) === this.#terms
  }

  /** Whether the deployment would serve the request if its sessions had room for more tokens. */
  isTooSmallFor(terms: Terms): boolean {
    const deployment = this.#deployment
    return deployment?.ended === false && textOf(terms) === this.#terms && !this.#fits(terms)
  }

  /** The deployment, when it has lost a stage and a request could use it if it had not. */
  broken(terms: Terms): Deployment | undefined {
    const deployment = this.#deployment
    return deployment?.lostStage !== undefined && this.#fits(terms) ? deployment : undefined
  }

  /**
   * Waits until the requests before have their sessions.
   *
   * @param options `begun`: part of the answer is out already, so it is not refused and goes first; `accepted`: others of its
   * request have had a place, so it is not refused
   * @throws {BusyError} when too many wait
   */
  async takeTurn(
    signal: AbortSignal,
    {
      begun,
      accepted = begun,
      priority
    }: { begun: boolean; accepted?: boolean | undefined; priority?: Priority | undefined }
  ): Promise<Turn> {
    if (this.#line.length >= MAX_WAITING_REQUESTS && !accepted) {
      throw new BusyError(`${this.#line.length} requests wait for this model already; try again later`)
    }
    clearTimeout(this.#idle)
    this.#removed = false
    try {
      const { giveBack, letBegunPass } = await this.#line.take(signal, { begun, priority })
      return {
        letBegunPass,
        giveBack: () => {
          giveBack()
          this.rest()
        }
      }
    } catch (error) {
      this.rest()
      throw error
    }
  }

  /**
   * Keeps the deployment when no request uses it: its leases are idle, so it makes room for whoever needs it. A broken one
   * is kept for the answers that come back from it, and one of which no session came to be, which makes no room, for a while.
   */
  rest(): void {
    if (!this.#isResting) return
    const { ended, used } = this.#deployment!
    this.#restingSinceMs = performance.now()
    clearTimeout(this.#idle)
    const kept = this.#removed ? 0 : this.keepAliveMs
    const ms = ended ? LOST_GRACE_MS : used || kept === 0 ? kept : UNUSED_DEPLOYMENT_MS
    if (ms !== FOREVER_MS) this.#idle = setTimeout(() => void this.clear(), ms).unref()
  }

  /** The model was removed everywhere: the deployment goes when no request uses it any more. */
  remove(): void {
    this.#removed = true
    this.rest()
  }

  get #isResting(): boolean {
    const deployment = this.#deployment
    if (deployment === undefined || this.#line.length > 0) return false
    return deployment.active === 0 || deployment.ended
  }

  /**
   * Takes the deployment out of use. Its leases are idle, so they make room for others, until the returned function gives
   * them back: what comes next on the same devices finds the weights loaded.
   */
  async retire(): Promise<() => Promise<void>> {
    const deployment = this.#deployment
    clearTimeout(this.#idle)
    this.#deployment = undefined
    if (deployment === undefined) return async () => {}
    this.#retired.add(deployment)
    await deployment.closeSessions()
    return async () => {
      await deployment.release()
      this.#retired.delete(deployment)
    }
  }

  /**
   * Puts another deployment in the place of the one that there is, whose answers go over to it one by one: that lasts until the
   * returned function gives it back, or is put in again itself.
   */
  exchange(deployment: Deployment, terms: Terms): () => Promise<void> {
    const before = this.#deployment
    this.#retired.delete(deployment)
    if (before !== undefined) this.#retired.add(before)
    this.put(deployment, terms)
    return async () => {
      if (before === undefined || before === this.#deployment) return
      await before.release()
      this.#retired.delete(before)
    }
  }

  /** Ends the deployment, and every earlier one, and gives their leases back. */
  async clear(): Promise<void> {
    clearTimeout(this.#idle)
    const deployments = [...this.#retired, ...(this.#deployment ? [this.#deployment] : [])]
    this.#deployment = undefined
    await Promise.all(deployments.map(deployment => deployment.release()))
  }

  /** A lease of this node's own had to make room: the deployment that stands on it is over. */
  async evicted(leaseId: string): Promise<void> {
    if (this.#deployment?.holds(leaseId)) await this.clear()
    for (const deployment of this.#retired) if (deployment.holds(leaseId)) await deployment.release()
  }

  #fits(terms: Terms): boolean {
    const contextTokens = this.#deployment?.contextTokens ?? 0
    return terms.promptTokens + terms.newTokens <= contextTokens && textOf(terms) === this.#terms
  }
}

function textOf({ privacy, placement }: Pick<Terms, 'privacy' | 'placement'>): string {
  const { method, cloud, batch, microBatches, strategy } = placement
  return JSON.stringify([privacy, method, cloud, batch, microBatches, strategy])
}
