import type { Objective, PlacementOptions, Privacy } from '../../api.ts'
import { DEPLOYMENT_IDLE_MS, LOST_GRACE_MS, MAX_WAITING_REQUESTS } from '../../constants.ts'
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
  readonly objective: Objective
  #deployment: Deployment | undefined
  /** Earlier deployments, until the next one has taken over what they have loaded. */
  readonly #retired = new Set<Deployment>()
  #terms = ''
  readonly #line = new Line()
  #idle: NodeJS.Timeout | undefined

  constructor(objective: Objective) {
    this.objective = objective
  }

  get deployment(): Deployment | undefined {
    return this.#deployment
  }

  put(deployment: Deployment, terms: Terms): void {
    this.#deployment = deployment
    this.#terms = textOf(terms)
    deployment.events.on('lost', () => this.rest())
  }

  /** The deployment, when a request can use it as it is. */
  serving(terms: Terms): Deployment | undefined {
    const deployment = this.#deployment
    if (deployment === undefined || deployment.ended) return undefined
    return this.#fits(terms) && !(deployment.wanted && deployment.active > 0) ? deployment : undefined
  }

  /** The deployment, when it has lost a stage and a request could use it if it had not. */
  broken(terms: Terms): Deployment | undefined {
    const deployment = this.#deployment
    return deployment?.lostStage !== undefined && this.#fits(terms) ? deployment : undefined
  }

  /**
   * Waits until the requests before have their sessions.
   *
   * @param options `begun`: part of the answer is out already, so it is not refused and goes first
   * @throws {BusyError} when too many wait
   */
  async takeTurn(signal: AbortSignal, { begun }: { begun: boolean }): Promise<Turn> {
    if (this.#line.length >= MAX_WAITING_REQUESTS && !begun) {
      throw new BusyError(`${this.#line.length} requests wait for this model already; try again later`)
    }
    clearTimeout(this.#idle)
    try {
      const { giveBack, letBegunPass } = await this.#line.take(signal, { begun })
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

  /** Keeps the deployment for a while when no request uses it, a broken one for the answers that come back from it. */
  rest(): void {
    const deployment = this.#deployment
    if (deployment === undefined || this.#line.length > 0) return
    if (deployment.active > 0 && !deployment.ended) return
    clearTimeout(this.#idle)
    const ms = deployment.ended ? LOST_GRACE_MS : DEPLOYMENT_IDLE_MS
    this.#idle = setTimeout(() => void this.clear(), ms).unref()
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

function textOf({ privacy, placement }: Terms): string {
  const { method, cloud, batch, microBatches, strategy } = placement
  return JSON.stringify([privacy, method, cloud, batch, microBatches, strategy])
}
