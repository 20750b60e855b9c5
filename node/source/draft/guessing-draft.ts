import { logger } from '../../../models/log.ts'
import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import type { ShardSession } from '../../../models/runtime/runtime.ts'
import { messageOf } from '../../../protocols/text.ts'
import type { Draft } from './draft.ts'
import { KnownStates } from './known-states.ts'
import { MAX_PROPOSED_TOKENS } from './ngram-draft.ts'

const log = logger('edgeshard:source')

/** What has to be fed before something can be proposed is waited for up to so many tokens: a few chunks. */
const SOON_TOKENS = 128

/** States of the layer's own that are kept: more than guesses can be under way, for further back the model's are known. */
const KEPT_MADE = 64

export interface GuessingDraftInit {
  /** A session on the layer that guesses, with embedding and head, which gives its states. */
  session: Pick<ShardSession, 'forward' | 'trim'>
  /** Tokens that it has room for. */
  maxTokens: number
  hiddenSize: number
  requestId?: string | undefined
}

/** A token in the layer's KV cache. */
interface Fed {
  token: number
  /** The state beside it is the model's; else it is what the layer made of the token before. */
  certain: boolean
}

/**
 * Proposes what the layer that a model came with says of the token behind the next one: from what the model made of each
 * token, beside the token that follows it. Behind what the model has computed the layer's own states take the place of the
 * model's, so that it guesses several tokens ahead, and are fed again when the model's are there.
 *
 * The place of a token in the layer's KV cache counts from the first state that is known: of a prompt that was found in the KV
 * caches only the rest is.
 */
export class GuessingDraft implements Draft {
  readonly #init: GuessingDraftInit
  readonly #known: KnownStates
  /** What the layer made, as states of the positions behind those that it was fed. */
  readonly #made = new Map<number, Float32Array>()
  /** The conversation as far as it was told. */
  #tokens: readonly number[] = []
  /** Position of the state that was fed first. */
  #base = 0
  #fed: Fed[] = []
  #last: Promise<unknown> = Promise.resolve()
  #calls = 0
  #ended = false

  constructor(init: GuessingDraftInit) {
    this.#init = init
    this.#known = new KnownStates(init.hiddenSize)
  }

  /** Called as `Draft` says; states of a prompt are fed while the next ones are computed. */
  saw(position: number, states: Float32Array): void {
    if (this.#ended) return
    this.#known.add(position, states)
    if (states.length > this.#init.hiddenSize) void this.#queue(() => this.#catchUp(this.#tokens))
  }

  /** Does as `Draft` says; with a count of 0 it is told of the conversation, and nothing is proposed. */
  async propose(tokens: readonly number[], count: number): Promise<readonly number[]> {
    const call = ++this.#calls
    this.#tokens = tokens
    const isLate = () => call !== this.#calls || this.#ended
    const proposed = await this.#queue(async () => {
      if (count <= 0 || isLate()) return []
      return await this.#propose(tokens, Math.min(count, MAX_PROPOSED_TOKENS), isLate)
    })
    return proposed ?? []
  }

  /** Nothing is proposed any more; resolves when the step under way has ended. */
  async end(): Promise<void> {
    this.#ended = true
    await this.#last
  }

  /** One after the other; what fails ends the drafting and nothing else. */
  #queue<T>(work: () => Promise<T>): Promise<T | undefined> {
    const done = this.#last.then(async () => {
      if (this.#ended) return undefined
      try {
        return await work()
      } catch (error) {
        if (!this.#ended) {
          log.of(this.#init.requestId).warn('drafting ended; the answer goes on without it', {
            error: messageOf(error)
          })
        }
        this.#ended = true
        return undefined
      }
    })
    this.#last = done
    return done
  }

  async #propose(
    tokens: readonly number[],
    count: number,
    isLate: () => boolean
  ): Promise<readonly number[]> {
    await this.#forget(tokens)
    // Beside the state of position p stands the token at p + 1.
    const end = tokens.length - 1
    const certain = this.#certainEnd(end)
    if (certain - this.#next > SOON_TOKENS) {
      void this.#queue(() => this.#catchUp(tokens))
      return []
    }
    let drawn = await this.#feedCertain(tokens, certain, certain === end, isLate)
    while (this.#next < end) {
      if (isLate() || !this.#made.has(this.#next) || this.#isFull) return []
      drawn = await this.#feedMade(tokens[this.#next + 1]!)
    }
    const proposed: number[] = []
    while (drawn !== undefined) {
      proposed.push(drawn)
      if (proposed.length === count || isLate() || this.#isFull) break
      drawn = await this.#feedMade(drawn)
    }
    return proposed
  }

  /** Feeds what is certain of a conversation, as far as the states of it are known. */
  async #catchUp(tokens: readonly number[]): Promise<void> {
    await this.#forget(tokens)
    await this.#feedCertain(tokens, this.#certainEnd(tokens.length - 1), false, () => this.#ended)
  }

  /** The position that is fed next. */
  get #next(): number {
    return this.#base + this.#fed.length
  }

  get #isFull(): boolean {
    return this.#fed.length >= this.#init.maxTokens
  }

  /** The end of the positions before `end` whose states are known, from the next one on. */
  #certainEnd(end: number): number {
    let certain = this.#next
    while (certain < end && this.#known.has(certain)) certain++
    return certain
  }

  /**
   * Trims what the conversation has otherwise, what was fed with states of the layer's own where the model's are known by
   * now, and the last token, behind which the next one is drawn. Begins anew where states between are missing, or the room
   * is used up.
   */
  async #forget(tokens: readonly number[]): Promise<void> {
    const end = tokens.length - 1
    const fits = ({ token, certain }: Fed, i: number) =>
      token === tokens[this.#base + i + 1] && (certain || !this.#known.has(this.#base + i))
    const wrong = this.#fed.findIndex((fed, i) => !fits(fed, i))
    const common = Math.min(wrong < 0 ? this.#fed.length : wrong, Math.max(0, end - 1 - this.#base))
    await this.#trim(common)
    const run = this.#known.lastRun(end)
    if (run === undefined) return
    const isApart = run[1] > this.#next && run[0] > this.#next
    const { maxTokens } = this.#init
    if (this.#fed.length > 0 && !isApart && end - this.#base <= maxTokens) return
    await this.#trim(0)
    this.#base = end - run[0] <= maxTokens ? run[0] : Math.max(run[0], end - Math.ceil(maxTokens / 2))
  }

  async #trim(length: number): Promise<void> {
    if (length < this.#fed.length) await this.#init.session.trim(length)
    this.#fed = this.#fed.slice(0, length)
    for (const position of this.#made.keys()) if (position > this.#next) this.#made.delete(position)
  }

  /** Feeds the positions up to `certain` in chunks. @returns what is drawn behind the last one, where that is asked for */
  async #feedCertain(
    tokens: readonly number[],
    certain: number,
    sample: boolean,
    isLate: () => boolean
  ): Promise<number | undefined> {
    let drawn: number | undefined
    while (this.#next < certain && !isLate() && !this.#isFull) {
      const start = this.#next
      const room = this.#init.maxTokens - this.#fed.length
      const end = Math.min(certain, start + Math.min(PREFILL_CHUNK_TOKENS, room))
      const own = tokens.slice(start + 1, end + 1)
      drawn = await this.#feed(own, this.#known.rows(start, end), sample && end === certain, true)
      this.#known.fed(end)
    }
    return drawn
  }

  /** Feeds a token beside what the layer made of the one before. */
  #feedMade(token: number): Promise<number | undefined> {
    return this.#feed([token], this.#made.get(this.#next)!, true, false)
  }

  async #feed(
    tokens: readonly number[],
    previous: Float32Array,
    sample: boolean,
    certain: boolean
  ): Promise<number | undefined> {
    const input = Int32Array.from(tokens)
    const output = await this.#init.session.forward({ position: this.#fed.length, input, sample, previous })
    this.#fed.push(...tokens.map(token => ({ token, certain })))
    if ('states' in output && output.states !== undefined) {
      this.#made.set(this.#next, output.states.slice(-this.#init.hiddenSize))
    }
    for (const position of this.#made.keys()) {
      if (position < this.#next - KEPT_MADE) this.#made.delete(position)
    }
    return output.kind === 'token' ? output.token.id : undefined
  }
}
