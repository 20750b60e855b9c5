import { logger } from '../../../models/log.ts'
import type { StageTiming } from '../../../protocols/stage/frame.ts'
import type { Guesses } from '../../api.ts'
import type { Draft } from '../draft/draft.ts'
import type { Judged } from './speculation-window.ts'
import { WindowSize } from './window-size.ts'

const log = logger('edgeshard:source')

export interface SpeculationInit {
  draft: Draft
  /** Prompt, and what is known of the answer. */
  tokens: readonly number[]
  /** Tokens that are under way as guesses and are none: they were certain elsewhere. @default 0 */
  ledTokens?: number
  /** Tokens that end the answer: none follows them, so they are not fed. */
  ends: ReadonlySet<number>
  /** Tokens that the model has. */
  vocabSize: number
  /** A draft that took its time has proposed something. */
  onProposed: () => void
}

/** The guesses at one answer: asks the draft, counts what held, and says how many may be under way. */
export class Speculation {
  readonly #init: SpeculationInit
  readonly #size: WindowSize
  /** The conversation as far as it is certain. */
  readonly #tokens: number[]
  /** What may follow the conversation and the guesses that are under way. */
  #proposed: readonly number[] = []
  #asking = false
  /** What the draft was asked about last, by its length: asked once more it would know no more. */
  #asked = { tokens: 0, turns: -1 }
  /** Rises where guesses under way were dropped: what was proposed behind them is of no use. */
  #turns = 0
  #broken = false
  /** Those that are under way still and no guesses. */
  #led: number
  #sent = 0
  #held = 0

  constructor(init: SpeculationInit) {
    this.#init = init
    this.#tokens = [...init.tokens]
    this.#led = init.ledTokens ?? 0
    this.#size = new WindowSize(init.draft.acceptance)
  }

  /** Counts those that are under way, of which nothing is known, as dropped. */
  get guesses(): Guesses {
    return { sent: this.#sent, held: this.#held, dropped: this.#sent - this.#held }
  }

  /** The next token to feed, behind the guesses that are under way; undefined where none may be, or none is known. */
  next(underWay: readonly number[], most: number): number | undefined {
    const room = Math.min(this.#size.guesses - underWay.length, most)
    if (this.#proposed.length === 0) {
      const probe = underWay.length === 0 && this.#size.probes
      if (room > 0 || probe) this.#ask(underWay, Math.max(1, room))
    }
    if (room <= 0) return undefined
    const [token, ...rest] = this.#proposed
    this.#proposed = rest
    if (token !== undefined) this.#sent++
    return token
  }

  /** A token was drawn behind the conversation. */
  drawn(token: number, { held, dropped }: Judged, speculated: boolean): void {
    this.#tokens.push(token)
    this.#size.drawn(performance.now(), speculated)
    if (held > 0) this.#heldOne()
    else if (dropped > 0) {
      this.#judged(false)
      this.#proposed = []
      this.#led = 0
      this.#turns++
    } else if (this.#proposed.length > 0) {
      const [guess, ...rest] = this.#proposed
      this.#judged(guess === token)
      this.#proposed = guess === token ? rest : []
    }
  }

  /** What the model made of the tokens from `position` on, (tokens, hidden): they are certain. */
  saw(position: number, states: Float32Array): void {
    if (!this.#broken) this.#init.draft.saw?.(position, states)
  }

  /** What the stages took for a token that was drawn; `certain` as `WindowSize.timed` has it. */
  timed(timings: readonly StageTiming[], receivedAtMs: number, certain?: 'clear' | 'behind'): void {
    this.#size.timed(timings, receivedAtMs, certain)
  }

  #heldOne(): void {
    if (this.#led > 0) this.#led--
    else {
      this.#held++
      this.#judged(true)
    }
  }

  #judged(right: boolean): void {
    this.#size.judged(right)
    this.#init.draft.judged?.(right)
  }

  #ask(underWay: readonly number[], count: number): void {
    if (this.#asking || this.#broken) return
    const asked = { tokens: this.#tokens.length + underWay.length, turns: this.#turns }
    if (asked.tokens === this.#asked.tokens && asked.turns === this.#asked.turns) return
    this.#asked = asked
    const tokens = [...this.#tokens, ...underWay]
    try {
      const proposed = this.#init.draft.propose(tokens, count)
      if (proposed instanceof Promise) void this.#await(proposed, tokens.length)
      else this.#proposed = this.#usable(proposed)
    } catch (error) {
      this.#give(error)
    }
  }

  async #await(proposing: Promise<readonly number[]>, length: number): Promise<void> {
    const turns = this.#turns
    this.#asking = true
    try {
      const proposed = this.#usable(await proposing)
      if (turns !== this.#turns) return
      // Tokens that it was to propose were drawn meanwhile.
      const since = this.#tokens.slice(length)
      const fits = since.every((token, i) => token === proposed[i])
      if (since.length > 0 && proposed.length > 0) this.#judged(since[0] === proposed[0])
      this.#proposed = fits ? proposed.slice(since.length) : []
    } catch (error) {
      this.#give(error)
    } finally {
      this.#asking = false
      this.#init.onProposed()
    }
  }

  /** What can be fed of a proposal: all before a token that ends the answer, or is none. */
  #usable(proposed: readonly number[]): readonly number[] {
    const { ends, vocabSize } = this.#init
    const bad = (token: number) => !(Number.isInteger(token) && token >= 0 && token < vocabSize)
    const end = proposed.findIndex(token => ends.has(token) || bad(token))
    return end < 0 ? proposed : proposed.slice(0, end)
  }

  /** An answer needs no draft. */
  #give(error: unknown): void {
    this.#broken = true
    log.passOver('a draft failed; the answer goes on without guesses')(error)
  }
}
