import { logger } from '../../../models/log.ts'
import type { GenerateEvent } from '../../api.ts'
import { BusyError } from '../../errors.ts'
import type { Deployment } from './deployment.ts'
import type { Ready } from './placer.ts'
import type { PlacementNeeds } from './planning.ts'
import { PushedEvents } from './pushed-events.ts'

const log = logger('edgeshard:source')

/** What a request will ask of a placement: all but its prompt is known, and how long that is roughly. */
export type AheadNeeds = Pick<
  PlacementNeeds,
  'model' | 'promptTokens' | 'newTokens' | 'objective' | 'privacy' | 'placement' | 'exact' | 'requestId'
>

/**
 * A placement that was begun for one request while its prompt is read: weights are on their way while the tokenizer is
 * loaded. What comes of it is the site's; a request finds it there, or places the model itself and says why that fails.
 */
export class PlacedAhead {
  readonly #events = new PushedEvents<GenerateEvent>()
  #ready: Ready | undefined
  #busy: BusyError | undefined

  /** @param work finds the deployment ready, and tells of what it does */
  constructor(work: (emit: (event: GenerateEvent) => void) => Promise<Ready>, requestId: string | undefined) {
    void work(event => this.#events.push(event))
      .then(ready => {
        this.#ready = ready
      })
      .catch(error => {
        if (error instanceof BusyError) this.#busy = error
        log.of(requestId).passOver('a model was not placed ahead; the request places it')(error)
      })
      .finally(() => this.#events.end())
  }

  /** What happens until the model is placed, or is found not to be: for the request, once. */
  get events(): AsyncIterable<GenerateEvent> {
    return this.#events
  }

  /** @throws {BusyError} once, where the memory was waited for until then: its request has waited for as long */
  checkBusy(): void {
    const busy = this.#busy
    this.#busy = undefined
    if (busy !== undefined) throw busy
  }

  /**
   * What it took to make a deployment ready, for the first answer on it; undefined where another one was made.
   *
   * @param readAtMs when the prompt was read, by the planning's clock: stages that are loaded by then were asked for no later
   * than what loading was to take before that, as far as the first token is concerned
   */
  takeSpent(
    deployment: Deployment,
    readAtMs: number
  ): Pick<Ready, 'planMs' | 'loadMs' | 'askedAtMs'> | undefined {
    const ready = this.#ready
    if (ready?.deployment !== deployment) return undefined
    this.#ready = undefined
    const { planMs, loadMs, askedAtMs = readAtMs } = ready
    const spent = { planMs, askedAtMs: Math.max(askedAtMs, readAtMs - (loadMs ?? 0)) }
    return loadMs === undefined ? spent : { ...spent, loadMs }
  }
}
