import type { SampledToken } from '../../models/runtime.ts'
import { MAX_RECOVERIES } from '../constants.ts'
import { StageLostError } from '../errors.ts'
import type { GenerateEvent, PlannedStage, Predicted } from '../types.ts'
import type { DeploymentRequest, Deployments, Placement } from './deployments.ts'

/**
 * The tokens of one answer, drawn one after the other. A stage that is lost is replaced: the model is placed again on
 * who is left, the KV cache is rebuilt from the tokens that are already known, and the same answer goes on. Sampling
 * depends on seed and position alone, so it draws the tokens that an undisturbed run would have drawn.
 */
export class TokenStream {
  readonly #deployments: Deployments
  readonly #request: Omit<DeploymentRequest, 'avoid' | 'lost'>
  readonly #signal: AbortSignal
  readonly #prompt: readonly number[]
  readonly #drawn: number[] = []
  readonly #avoid = new Set<string>()
  #placement: Placement | undefined
  #lost: StageLostError | undefined
  /** Where the answer is computed now. */
  plan: { stages: PlannedStage[] } = { stages: [] }
  /** What the first plan predicted. */
  predicted: Predicted | undefined
  recoveries = 0

  constructor(
    deployments: Deployments,
    request: Omit<DeploymentRequest, 'avoid' | 'lost'>,
    prompt: readonly number[],
    signal: AbortSignal
  ) {
    this.#deployments = deployments
    this.#request = request
    this.#prompt = prompt
    this.#signal = signal
  }

  /**
   * Draws the next token; yields what happens on the way, nothing at all in most cases.
   *
   * @throws {StageLostError} when a stage is lost and the rest of the mesh cannot hold the model
   */
  async *next(): AsyncGenerator<GenerateEvent, SampledToken> {
    for (;;) {
      const fresh = this.#placement === undefined
      const { pipeline } = (this.#placement ??= yield* this.#place())
      try {
        const token = fresh
          ? await pipeline.prefill(this.#prompt, this.#drawn)
          : await pipeline.decode(this.#drawn.at(-1)!)
        this.#drawn.push(token.id)
        return token
      } catch (error) {
        if (!(error instanceof StageLostError) || this.recoveries === MAX_RECOVERIES) throw error
        this.#lost = error
        this.#avoid.add(error.peerId)
        this.recoveries++
        await this.close({ broken: true })
        yield { type: 'recovery', peerId: error.peerId, reason: error.message }
      }
    }
  }

  /** Ends the session; a `broken` placement is not kept for the next request. */
  async close({ broken = false } = {}): Promise<void> {
    const placement = this.#placement
    this.#placement = undefined
    await placement?.giveBack({ broken })
  }

  async *#place(): AsyncGenerator<GenerateEvent, Placement> {
    const request = { ...this.#request, avoid: this.#avoid, lost: this.#lost }
    const placement = yield* this.#deployments.acquire(request, { signal: this.#signal })
    this.plan = placement.plan
    this.predicted ??= placement.predicted
    yield { type: 'plan', plan: placement.plan, predicted: placement.predicted }
    return placement
  }
}
