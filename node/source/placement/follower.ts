import { EventEmitter, once } from 'node:events'
import type { SampledToken } from '../../../models/runtime/runtime.ts'
import type { Guesses } from '../../api.ts'
import type { Answer } from '../pipeline/answer.ts'
import type { ComputedRuns } from '../pipeline/computed-runs.ts'
import type { Lead } from '../pipeline/lead.ts'
import type { MeasuredSteps } from '../pipeline/measured.ts'

/** Tokens over which it has to keep up: by then what it fed in a row while it caught up is through. */
const STEADY_TOKENS = 3
/** Tokens that it may be before the answer that it follows. */
const MAX_AHEAD_TOKENS = 2

/**
 * An answer that is drawn once more on other stages, to go on there: it is fed the tokens that the running one draws, and draws
 * the same behind each. From when it is taken over it is an answer as any other, from the reply's token `startFrom` on.
 */
export class Follower implements Answer {
  readonly #answer: Answer
  readonly #lead: Lead
  /** Index in the reply of the first token that it draws. */
  readonly from: number
  readonly #tokens: SampledToken[] = []
  readonly #events = new EventEmitter<{ change: [] }>()
  /** Tokens that were found to be those of the running one. */
  #compared = 0
  /** Index in the tokens of the one that is read next. */
  #at = 0
  #alone = false
  /** Whether nothing but `next` reads the answer on the other stages. */
  #isHandedOver = false
  #closed = false
  /** When the running one had how many tokens as this one began. */
  readonly #began: { atMs: number; tokens: number }
  /** How far behind it was when each of the last tokens came. */
  #behindBefore: readonly number[] = Array(STEADY_TOKENS).fill(Number.POSITIVE_INFINITY)
  #failure: Error | undefined

  /**
   * @param answer on the other stages, with the first `from` tokens of the reply as known
   * @param lead what the running one has drawn
   */
  constructor(answer: Answer, lead: Lead, from: number) {
    this.#answer = answer
    this.#lead = lead
    this.from = from
    this.#events.setMaxListeners(0)
    this.#began = { atMs: performance.now(), tokens: lead.length }
    const unfollow = lead.follow(() => this.#ledOn())
    void this.#readOn().finally(unfollow)
  }

  get cachedTokens(): number {
    return this.#answer.cachedTokens
  }

  get prefilled(): AsyncIterable<number> {
    return this.#answer.prefilled
  }

  get exact(): boolean {
    return this.#answer.exact
  }

  get measured(): MeasuredSteps {
    return this.#answer.measured
  }

  get guesses(): Guesses | undefined {
    return this.#answer.guesses
  }

  get certain(): Lead {
    return this.#answer.certain
  }

  get runs(): ComputedRuns {
    return this.#answer.runs
  }

  get behindTokens(): number {
    return this.#answer.behindTokens
  }

  /** Why it can take over no more. */
  get failure(): Error | undefined {
    return this.#failure
  }

  /**
   * True when it keeps up with the running one: nothing is left of what it had to catch up with, so that its next token comes
   * in one step's time. It has drawn all that is certain, or was at most so many behind when each of the last ones came as
   * are always on their way, where a step takes longer than the running one's tokens follow each other.
   *
   * @param stepMs what a step takes on the other stages
   */
  isLevel(stepMs: number): boolean {
    if (this.#failure !== undefined || this.#tokens.length === 0) return false
    const most = Math.max(1, Math.ceil(stepMs / this.#leadTokenMs) - 1)
    return this.#behind <= 0 || Math.max(...this.#behindBefore) <= most
  }

  /** How the tokens of the running one have followed each other. */
  get #leadTokenMs(): number {
    const { atMs, tokens } = this.#began
    return (performance.now() - atMs) / Math.max(0, this.#lead.length - tokens)
  }

  /** Tokens that are certain and that it has not drawn. */
  get #behind(): number {
    return this.#lead.length - this.from - this.#tokens.length
  }

  /** The running one has drawn a token more. */
  #ledOn(): void {
    this.#behindBefore = [...this.#behindBefore.slice(1), this.#behind - 1]
    this.#events.emit('change')
  }

  /** Calls back whenever it has moved, or so has the one that it follows. @returns what ends that */
  watch(onChange: () => void): () => void {
    this.#events.on('change', onChange)
    return () => void this.#events.off('change', onChange)
  }

  /** The first token that `next` is to give, by its index in the reply; not before `from`. */
  startFrom(index: number): void {
    this.#at = index - this.from
  }

  goAlone(): void {
    this.#alone = true
    this.#answer.goAlone()
    this.#events.emit('change')
  }

  pause(isPaused: boolean): void {
    this.#answer.pause(isPaused)
  }

  async next(): Promise<SampledToken> {
    for (;;) {
      const token = this.#tokens[this.#at]
      if (token !== undefined) {
        this.#at++
        return token
      }
      if (this.#failure !== undefined) throw this.#failure
      if (this.#isHandedOver) {
        const drawn = await this.#answer.next()
        this.#tokens.push(drawn)
        continue
      }
      await once(this.#events, 'change')
    }
  }

  /** Nothing is pooled beside a running one: that ends with its prompt. */
  pooled(): Promise<Float32Array> {
    return this.#answer.pooled()
  }

  async close(): Promise<void> {
    this.#closed = true
    this.#events.emit('change')
    await this.#answer.close()
  }

  /** Reads the answer on the other stages, until it is taken over. */
  async #readOn(): Promise<void> {
    try {
      while (!this.#closed && !this.#alone) {
        if (this.from + this.#tokens.length >= this.#lead.length + MAX_AHEAD_TOKENS) {
          this.#compare()
          await once(this.#events, 'change')
          continue
        }
        const token = await this.#answer.next()
        this.#tokens.push(token)
        this.#compare()
        this.#events.emit('change')
      }
      this.#isHandedOver = true
    } catch (error) {
      this.#failure = error instanceof Error ? error : new Error(String(error))
    } finally {
      this.#events.emit('change')
    }
  }

  /** @throws {Error} where it has drawn another token than the running one */
  #compare(): void {
    for (; this.#compared < this.#tokens.length; this.#compared++) {
      const led = this.#lead.at(this.from + this.#compared)
      if (led === undefined) return
      if (led.id === this.#tokens[this.#compared]!.id) continue
      throw new Error(
        `token ${this.from + this.#compared} of the answer is another one on the stages that it was to move to`
      )
    }
  }
}
