import { DEPLOYMENT_IDLE_MS, MAX_WAITING_REQUESTS } from '../constants.ts'
import { BusyError } from '../errors.ts'
import type { Objective, PlacementOptions, Privacy } from '../types.ts'
import type { Deployment } from './deployment.ts'

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
  #terms = ''
  #turn: Promise<void> = Promise.resolve()
  #waiting = 0
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
  }

  /** The deployment, when a request can use it as it is. */
  serving(terms: Terms): Deployment | undefined {
    const deployment = this.#deployment
    if (deployment === undefined || deployment.ended) return undefined
    const { contextTokens, wanted, active } = deployment
    const fits = terms.promptTokens + terms.newTokens <= contextTokens && textOf(terms) === this.#terms
    return fits && !(wanted && active > 0) ? deployment : undefined
  }

  /**
   * Waits until the requests before have their sessions; the returned function lets the next one have its own.
   *
   * @param options `begun`: part of the answer is out already, so it is not refused
   * @throws {BusyError} when too many wait
   */
  async takeTurn(signal: AbortSignal, { begun }: { begun: boolean }): Promise<() => void> {
    if (this.#waiting >= MAX_WAITING_REQUESTS && !begun) {
      throw new BusyError(`${this.#waiting} requests wait for this model already; try again later`)
    }
    const before = this.#turn
    const mine = Promise.withResolvers<void>()
    this.#turn = before.then(() => mine.promise)
    this.#waiting++
    clearTimeout(this.#idle)
    const giveBack = () => {
      this.#waiting--
      mine.resolve()
      void this.rest()
    }
    const aborted = Promise.withResolvers<never>()
    const onAbort = () => aborted.reject(signal.reason)
    signal.addEventListener('abort', onAbort, { once: true })
    try {
      signal.throwIfAborted()
      await Promise.race([before, aborted.promise])
      return giveBack
    } catch (error) {
      giveBack()
      throw error
    } finally {
      signal.removeEventListener('abort', onAbort)
    }
  }

  /** When nobody uses it: keeps the deployment warm for a while, unless it cannot be used again. */
  async rest(): Promise<void> {
    const deployment = this.#deployment
    if (deployment === undefined || this.#waiting > 0) return
    if (deployment.ended) return await this.clear()
    if (deployment.active > 0) return
    clearTimeout(this.#idle)
    this.#idle = setTimeout(() => void this.clear(), DEPLOYMENT_IDLE_MS).unref()
  }

  /** Ends the deployment and gives its leases back. */
  async clear(): Promise<void> {
    const deployment = this.#deployment
    clearTimeout(this.#idle)
    this.#deployment = undefined
    await deployment?.release()
  }
}

function textOf({ privacy, placement }: Terms): string {
  const { method, cloud, batch, microBatches, strategy } = placement
  return JSON.stringify([privacy, method, cloud, batch, microBatches, strategy])
}
