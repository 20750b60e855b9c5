import type { SampledToken } from '../../../models/runtime/runtime.ts'
import type { GenerateEvent, PlannedStage, Predicted } from '../../api.ts'
import { MAX_RECOVERIES } from '../../constants.ts'
import { StageLostError } from '../../errors.ts'
import type { MeasuredStep } from '../pipeline/measured.ts'
import type { DeploymentRequest, Deployments, Placement } from '../placement/deployments.ts'

/**
 * The tokens of one answer, drawn one after the other. A stage that is lost is replaced: the model is placed again on
 * who is left, the KV cache is rebuilt from the tokens that are already known, and the same answer goes on. Sampling
 * depends on seed and position alone, so it draws the tokens that an undisturbed run would have drawn.
 */
export class TokenStream {
  readonly #deployments: Deployments
  readonly #request: Omit<DeploymentRequest, 'known' | 'avoid' | 'lost'>
  readonly #signal: AbortSignal
  readonly #drawn: number[] = []
  readonly #avoid = new Set<string>()
  #placement: Placement | undefined
  #lost: StageLostError | undefined
  /** The loss that the next token ends. */
  #loss: Loss | undefined
  #lastTokenAtMs = performance.now()
  /** Where the answer is computed now. */
  plan: { stages: PlannedStage[] } = { stages: [] }
  /** What the first plan predicted. */
  predicted: Predicted | undefined
  /** What the last plan's stages measured. */
  measured: MeasuredStep = { steps: 0, sequences: 0, stages: [], linksMs: [] }
  /** Tokens of the prompt that the first placement had in its KV caches. */
  cachedTokens = 0
  recoveries = 0

  constructor(
    deployments: Deployments,
    request: Omit<DeploymentRequest, 'known' | 'avoid' | 'lost'>,
    signal: AbortSignal
  ) {
    this.#deployments = deployments
    this.#request = request
    this.#signal = signal
  }

  /**
   * Draws the next token; yields what happens on the way, nothing at all in most cases.
   *
   * @throws {StageLostError} when a stage is lost and the rest of the mesh cannot hold the model
   */
  async *next(): AsyncGenerator<GenerateEvent, SampledToken> {
    for (;;) {
      try {
        const placement = this.#placement ?? (yield* this.#place())
        const token = await placement.reply.next()
        this.#drawn.push(token.id)
        const nowMs = performance.now()
        if (this.#loss !== undefined) yield this.#loss.recovered(nowMs)
        this.#loss = undefined
        this.#lastTokenAtMs = nowMs
        return token
      } catch (error) {
        if (!(error instanceof StageLostError) || this.#placement === undefined) throw error
        if (this.recoveries === MAX_RECOVERIES) throw error
        this.#lost = error
        this.#avoid.add(error.peerId)
        this.recoveries++
        this.#loss = new Loss(error.peerId, this.#lastTokenAtMs)
        await this.close()
        yield { type: 'recovery', peerId: error.peerId, reason: error.message }
      }
    }
  }

  /** Ends the session. */
  async close(): Promise<void> {
    const placement = this.#placement
    this.#placement = undefined
    if (placement === undefined) return
    this.measured = placement.reply.measured.means
    await placement.giveBack()
  }

  async *#place(): AsyncGenerator<GenerateEvent, Placement> {
    const request = { ...this.#request, known: [...this.#drawn], avoid: this.#avoid, lost: this.#lost }
    const placement = yield* this.#deployments.acquire(request, { signal: this.#signal })
    // At once: whoever reads the events may leave at the next one.
    this.#placement = placement
    this.#loss?.placed(placement.planMs)
    this.plan = placement.plan
    if (this.predicted === undefined) this.cachedTokens = placement.reply.cachedTokens
    this.predicted ??= placement.predicted
    yield { type: 'plan', plan: placement.plan, predicted: placement.predicted }
    return placement
  }
}

/** What a lost stage costs, from the last token before it to the first one after. */
class Loss {
  readonly #peerId: string
  readonly #detectMs: number
  readonly #lostAtMs = performance.now()
  #planMs = 0
  #placedAtMs = 0

  constructor(peerId: string, lastTokenAtMs: number) {
    this.#peerId = peerId
    this.#detectMs = this.#lostAtMs - lastTokenAtMs
  }

  placed(planMs: number): void {
    this.#planMs = planMs
    this.#placedAtMs = performance.now()
  }

  recovered(nowMs: number): GenerateEvent {
    const spent = {
      detectMs: this.#detectMs,
      planMs: this.#planMs,
      recruitMs: this.#placedAtMs - this.#lostAtMs - this.#planMs,
      rebuildMs: nowMs - this.#placedAtMs
    }
    return { type: 'recovered', peerId: this.#peerId, spent }
  }
}
