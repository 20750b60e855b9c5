import { logger } from '../../../models/log.ts'
import type { SampledToken } from '../../../models/runtime/runtime.ts'
import type { GenerateEvent, Guesses, Move, PlannedStage, Predicted, Stretch } from '../../api.ts'
import { keepsClasses } from '../../bits-class.ts'
import {
  CONTEXT_STEP_TOKENS,
  EXPECTED_TOKENS,
  GROWTH_FACTORS,
  MAX_RECOVERIES,
  SHORTENED_TOKENS
} from '../../constants.ts'
import {
  BusyError,
  OwnStageLostError,
  PlanRefusedError,
  StageHandedOverError,
  StageLostError
} from '../../errors.ts'
import type { MeasuredStep } from '../pipeline/measured.ts'
import { GOES_ON_ELSEWHERE } from '../pipeline/source-session.ts'
import type { DeploymentRequest, Deployments, PlacedAnswer } from '../placement/deployments.ts'
import { OfferRefusedError } from '../placement/recruit.ts'
import { Stretches } from './stretches.ts'

const log = logger('edgeshard:source')

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
  readonly #stretches = new Stretches()
  #placed: PlacedAnswer | undefined
  /** The place where it was drawn until it went over: it can be gone on with until a token has come from where it is now. */
  #before: PlacedAnswer | undefined
  /** What it has left is being given back. */
  readonly #leaving = new Set<Promise<void>>()
  /** New tokens that are planned for at least. */
  #newTokens: number
  /** Tokens that the KV caches have room for which it was placed with last. */
  #roomTokens = 0
  #lost: StageLostError | undefined
  /** Stages that were lost; those that were handed over are none. */
  #losses = 0
  /** The loss that the next token ends. */
  #loss: Loss | undefined
  #lastTokenAtMs = performance.now()
  #placedAtMs = 0
  /** The deployment that computes the answer now. */
  plan: { stages: PlannedStage[] } = { stages: [] }
  /** What the first plan predicted. */
  predicted: Predicted | undefined
  /** What the last plan's stages measured. */
  measured: MeasuredStep = { steps: 0, sequences: 0, contextTokens: 0, stages: [], linksMs: [] }
  /** What became of its guesses, on all deployments; undefined where it makes none. */
  guesses: Guesses | undefined
  /** Tokens of the prompt that were in the KV caches of the deployment that drew the first token. */
  cachedTokens = 0
  recoveries = 0
  /** What stood by for it last. */
  standby: PlannedStage[] | undefined
  /** When it went over to other devices. */
  moves: Move[] = []
  /** Layers went on at another class of bits than before, behind tokens that were drawn. */
  otherClass = false
  /** Whether it was computed to the bit on every device that had a part in it. */
  exact = true

  constructor(
    deployments: Pick<Deployments, 'acquire'>,
    request: Omit<DeploymentRequest, 'known' | 'avoid' | 'lost'>,
    signal: AbortSignal
  ) {
    this.#deployments = deployments
    this.#request = request
    this.#newTokens = request.newTokens
    this.#signal = signal
  }

  /** The parts of the answer that had a plan each; undefined where the first one had all of it. */
  get stretches(): Stretch[] | undefined {
    return this.#stretches.list
  }

  /**
   * Draws the next token; yields what happens on the way, nothing at all in most cases. Undefined where the KV caches are
   * full and the mesh has no memory for larger ones.
   *
   * @throws {StageLostError} when a stage is lost and the rest of the mesh cannot hold the model
   */
  async *next(): AsyncGenerator<GenerateEvent, SampledToken | undefined> {
    for (;;) {
      try {
        const placed = this.#goneOver() ?? this.#placed ?? (yield* this.#begin())
        if (this.#drawn.length >= placed.roomTokens) {
          if (!(yield* this.#grow())) return undefined
          continue
        }
        if (this.#drawn.length === 0) yield* this.#prefilled(placed)
        const token = await placed.answer.next()
        this.#drawn.push(token.id)
        if (this.#drawn.length === 1) {
          log.of(this.#request.requestId).debug('first token')
          placed.firstToken()
        }
        const nowMs = performance.now()
        if (this.#loss !== undefined) yield this.#loss.recovered(nowMs)
        if (this.#before !== undefined) yield* this.#arrived(placed, nowMs)
        this.#stretches.drawn(nowMs)
        this.#loss = undefined
        this.#lost = undefined
        this.#lastTokenAtMs = nowMs
        return token
      } catch (error) {
        yield* this.#recover(error)
      }
    }
  }

  /**
   * What the prompt's hidden states come to, where the request says how they are pooled; yields what happens on the way.
   *
   * @throws {StageLostError} as `next`
   */
  async *pooled(): AsyncGenerator<GenerateEvent, Float32Array> {
    for (;;) {
      try {
        const placed = this.#placed ?? (yield* this.#place(this.#request.newTokens))
        yield* this.#prefilled(placed)
        return await placed.answer.pooled()
      } catch (error) {
        yield* this.#recover(error)
      }
    }
  }

  /** That so many tokens of the prompt are through. */
  prefilled(done: number): GenerateEvent {
    const ms = performance.now() - this.#placedAtMs
    return { type: 'prefill', done, total: this.#request.prompt.length, cached: this.cachedTokens, ms }
  }

  async *#prefilled({ answer }: PlacedAnswer): AsyncGenerator<GenerateEvent, void> {
    for await (const done of answer.prefilled) yield this.prefilled(done)
  }

  /** Takes note of a lost stage, of whose place another is to be found. @throws the error where it is none, or one too many */
  async *#recover(error: unknown): AsyncGenerator<GenerateEvent, void> {
    if (this.#goneOver() !== undefined || this.#goneBack() || error === GOES_ON_ELSEWHERE) return
    if (!(error instanceof StageLostError) || this.#placed === undefined) throw error
    if (!(error instanceof StageHandedOverError) && ++this.#losses > MAX_RECOVERIES) throw error
    if (!(error instanceof OwnStageLostError)) {
      this.#lost = error
      // The one that was lost last is the last to be taken again.
      this.#avoid.delete(error.peerId)
      this.#avoid.add(error.peerId)
    }
    this.recoveries++
    this.#loss = new Loss(error.peerId, this.#lastTokenAtMs)
    await this.close()
    yield { type: 'recovery', peerId: error.peerId, reason: error.message }
  }

  /** Ends the session. */
  async close(): Promise<void> {
    for (const placed of [this.#before, this.#placed]) if (placed !== undefined) this.#leave(placed)
    this.#before = undefined
    this.#placed = undefined
    await Promise.all(this.#leaving)
  }

  #leave(placed: PlacedAnswer): void {
    this.measured = placed.answer.measured.means
    this.#stretches.measured(placed, this.measured)
    this.standby = placed.standby ?? this.standby
    this.guesses = sumOf(this.guesses, placed.answer.guesses)
    const leaving = placed.giveBack().finally(() => this.#leaving.delete(leaving))
    // Whoever closes the stream hears of it.
    leaving.catch(() => {})
    this.#leaving.add(leaving)
  }

  /** Goes over to other devices where these are as far. @returns the answer there, else undefined */
  #goneOver(): PlacedAnswer | undefined {
    const next = this.#placed?.goesOn(this.#drawn.length)
    if (next === undefined) return undefined
    // The first of three places in a row is of no more use.
    if (this.#before !== undefined) this.#leave(this.#before)
    this.#before = this.#placed
    this.#placed = next
    this.#roomTokens = next.roomTokens
    return next
  }

  /** Goes on where it was before, which has what the place that it went over to has not come to give. */
  #goneBack(): boolean {
    const { length } = this.#drawn
    if (this.#before === undefined || this.#placed === undefined || this.#signal.aborted) return false
    log.of(this.#request.requestId).info('the answer goes on where it was', { tokens: length })
    this.#leave(this.#placed)
    this.#placed = this.#before
    this.#before = undefined
    this.#roomTokens = this.#placed.roomTokens
    return true
  }

  /** A token has come from where it went over to. */
  async *#arrived(placed: PlacedAnswer, nowMs: number): AsyncGenerator<GenerateEvent, void> {
    const { plan, predicted, answer, move } = placed
    if (this.#before !== undefined) this.#leave(this.#before)
    this.#before = undefined
    this.#stretches.begin(placed)
    this.#noteClass(plan)
    this.plan = plan
    this.exact &&= answer.exact
    yield { type: 'plan', plan, predicted }
    if (move === undefined) return
    const spent = { ...move.spent, gapMs: nowMs - this.#lastTokenAtMs }
    const moved = { ...move, tokens: this.#drawn.length - 1, spent }
    this.moves.push(moved)
    yield { type: 'moved', move: moved }
  }

  /** Its layers go on where `plan` has them. */
  #noteClass({ stages }: PlacedAnswer['plan']): void {
    if (keepsClasses(this.plan.stages, stages)) return
    this.otherClass = true
    log
      .of(this.#request.requestId)
      .warn('the answer goes on at another class of bits: its tokens may be others than where it was')
  }

  /**
   * Tokens of the answer to plan for: all of them where a client has named them, else some more than there are, but no more
   * than what it has lost had room for.
   */
  get #expectedTokens(): number {
    const some = Math.min(this.#drawn.length + EXPECTED_TOKENS, this.#roomTokens)
    return Math.max(this.#newTokens, some)
  }

  /**
   * Places the model again with larger KV caches, which are computed from the tokens that are known: the answer has filled
   * those that it had. @returns false where the mesh has no memory for that, or a device fails that was to give it
   */
  async *#grow(): AsyncGenerator<GenerateEvent, boolean> {
    const { promptTokens, newTokens, mostTokens = newTokens } = this.#request
    const tokens = promptTokens + this.#drawn.length
    // What it had is free again for the larger ones.
    await this.close()
    for (const factor of GROWTH_FACTORS) {
      const grown = Math.ceil(factor * tokens) - promptTokens
      try {
        yield* this.#place(Math.min(mostTokens, grown))
        return true
      } catch (error) {
        if (error instanceof BusyError) return false
        if (!noRoom(error)) throw error
      }
    }
    return false
  }

  /**
   * Places it for what is expected of it, or, where nobody has room for that before it has begun, for less. Late peers are waited
   * for only where there is no room for any of it now: it gets more when it has filled what it has.
   */
  async *#begin(): AsyncGenerator<GenerateEvent, PlacedAnswer> {
    if (this.#drawn.length > 0) return yield* this.#place(this.#expectedTokens)
    if (this.#lost === undefined && this.#shorter.length > 0) {
      const whole = yield* this.#unlessRefused(this.#expectedTokens, { isHasty: true })
      const placed = whole ?? (yield* this.#shortened())
      if (placed !== undefined) return placed
    }
    try {
      return yield* this.#place(this.#expectedTokens)
    } catch (error) {
      if (!(error instanceof PlanRefusedError)) throw error
      const placed = yield* this.#shortened()
      if (placed === undefined) throw error
      return placed
    }
  }

  /** Places it for fewer tokens than are expected of it; undefined where nobody has room for these either. */
  async *#shortened(): AsyncGenerator<GenerateEvent, PlacedAnswer | undefined> {
    for (const newTokens of this.#shorter) {
      const placed = yield* this.#unlessRefused(newTokens, { isShortened: true })
      if (placed === undefined) continue
      this.#newTokens = newTokens
      return placed
    }
    return undefined
  }

  async *#unlessRefused(
    newTokens: number,
    haste: Pick<DeploymentRequest, 'isShortened' | 'isHasty'>
  ): AsyncGenerator<GenerateEvent, PlacedAnswer | undefined> {
    try {
      return yield* this.#place(newTokens, haste)
    } catch (error) {
      if (error instanceof PlanRefusedError) return undefined
      throw error
    }
  }

  /** Numbers of new tokens, each of which takes less memory than the one before. */
  get #shorter(): number[] {
    const steps = (tokens: number) => Math.ceil((this.#request.promptTokens + tokens) / CONTEXT_STEP_TOKENS)
    const tried = new Set([steps(this.#expectedTokens)])
    return SHORTENED_TOKENS.filter(tokens => {
      if (tokens > this.#newTokens || tried.has(steps(tokens))) return false
      tried.add(steps(tokens))
      return true
    })
  }

  async *#place(
    newTokens: number,
    haste: Pick<DeploymentRequest, 'isShortened' | 'isHasty'> = {}
  ): AsyncGenerator<GenerateEvent, PlacedAnswer> {
    const known = [...this.#drawn]
    const { mostTokens = this.#request.newTokens } = this.#request
    const history = { known, avoid: this.#avoid, lost: this.#lost }
    const request = { ...this.#request, newTokens, mostTokens, ...haste, ...history }
    const placed = yield* this.#deployments.acquire(request, { signal: this.#signal })
    // At once: the reader of the events may leave at the next one.
    this.#placed = placed
    this.#stretches.begin(placed)
    this.#roomTokens = placed.roomTokens
    this.#placedAtMs = performance.now()
    this.#loss?.placed(placed.planMs)
    if (known.length > 0) this.#noteClass(placed.plan)
    this.plan = placed.plan
    this.exact &&= placed.answer.exact
    if (known.length === 0) this.cachedTokens = placed.answer.cachedTokens
    this.predicted ??= placed.predicted
    yield { type: 'plan', plan: placed.plan, predicted: placed.predicted }
    return placed
  }
}

/** True where nobody gives the room for an answer that is complete without it: whoever was to may be gone, too. */
function noRoom(error: unknown): boolean {
  return (
    error instanceof PlanRefusedError || error instanceof OfferRefusedError || error instanceof StageLostError
  )
}

function sumOf(before: Guesses | undefined, more: Guesses | undefined): Guesses | undefined {
  if (before === undefined || more === undefined) return before ?? more
  const { sent, held, dropped } = before
  return { sent: sent + more.sent, held: held + more.held, dropped: dropped + more.dropped }
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
