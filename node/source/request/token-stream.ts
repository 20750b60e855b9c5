import type { SampledToken } from '../../../models/runtime/runtime.ts'
import type { GenerateEvent, PlannedStage, Predicted } from '../../api.ts'
import { MAX_RECOVERIES } from '../../constants.ts'
import { StageLostError } from '../../errors.ts'
import type { MeasuredStep } from '../pipeline/measured.ts'
import type { DeploymentRequest, Deployments, PlacedAnswer } from '../placement/deployments.ts'

/**
 * The tokens of one answer, drawn one after the other. A stage that is lost is replaced: the model is placed again on
 * the devices that are left, the KV cache is rebuilt from the tokens that are already known, and the same answer goes
 * on. Sampling depends on seed and position alone, so it draws the tokens that an undisturbed run would have drawn.
 */
export class TokenStream {
  readonly #deployments: Pick<Deployments, 'acquire'>
  readonly #request: Omit<DeploymentRequest, 'known' | 'avoid' | 'lost'>
  readonly #signal: AbortSignal
  readonly #drawn: number[] = []
  readonly #avoid = new Set<string>()
  #placed: PlacedAnswer | undefined
  #lost: StageLostError | undefined
  /** The loss that the next token ends. */
  #loss: Loss | undefined
  #lastTokenAtMs = performance.now()
  /** The deployment that computes the answer now. */
  plan: { stages: PlannedStage[] } = { stages: [] }
  /** What the first plan predicted. */
  predicted: Predicted | undefined
  /** What the last plan's stages measured. */
  measured: MeasuredStep = { steps: 0, sequences: 0, contextTokens: 0, stages: [], linksMs: [] }
  /** Tokens of the prompt that the first deployment had in its KV caches. */
  cachedTokens = 0
  recoveries = 0

  constructor(
    deployments: Pick<Deployments, 'acquire'>,
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
        const placed = this.#placed ?? (yield* this.#place())
        const token = await placed.answer.next()
        this.#drawn.push(token.id)
        const nowMs = performance.now()
        if (this.#loss !== undefined) yield this.#loss.recovered(nowMs)
        this.#loss = undefined
        this.#lastTokenAtMs = nowMs
        return token
      } catch (error) {
        if (!(error instanceof StageLostError) || this.#placed === undefined) throw error
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
    const placed = this.#placed
    this.#placed = undefined
    if (placed === undefined) return
    this.measured = placed.answer.measured.means
    await placed.giveBack()
  }

  async *#place(): AsyncGenerator<GenerateEvent, PlacedAnswer> {
    const request = { ...this.#request, known: [...this.#drawn], avoid: this.#avoid, lost: this.#lost }
    const placed = yield* this.#deployments.acquire(request, { signal: this.#signal })
    // At once: the reader of the events may leave at the next one.
    this.#placed = placed
    this.#loss?.placed(placed.planMs)
    this.plan = placed.plan
    if (this.predicted === undefined) this.cachedTokens = placed.answer.cachedTokens
    this.predicted ??= placed.predicted
    yield { type: 'plan', plan: placed.plan, predicted: placed.predicted }
    return placed
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
