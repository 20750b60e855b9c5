import type { SampledToken } from '../../../models/runtime/runtime.ts'
import type { Conversation } from './kv-slots.ts'
import { MeasuredSteps } from './measured.ts'

export interface SourceSessionInit {
  id: string
  slot: number
  prompt: readonly number[]
  /** Tokens of the answer that are known from another pipeline. */
  known: readonly number[]
  /** Tokens that end the answer. */
  ends: ReadonlySet<number>
  /** Tokens to draw at most, those that are known not counted. */
  maxTokens: number
  /** The conversation that it belongs to; see `KvSlots`. */
  scope: string
  /** The session may take part in the next step. */
  onReady: () => void
  /** The answer has not been read for so long that the session is over. */
  onStalled: () => void
}

/** How long an answer is: its tokens so far, and those that may be drawn still. */
export interface AnswerTokens {
  tokens: number
  leftTokens: number
}

/** Tokens that may wait to be read; a client that stops reading stops its answer, not the others'. */
const MAX_UNREAD_TOKENS = 16
/** A client that has read nothing for so long is taken to be gone, and its slot is another's. */
const STALLED_READER_MS = 60_000

/**
 * The source's end of a session: tokens come in from the last stage, go out to the reader, and back in at the first
 * stage. The next step does not wait for the reader unless it falls far behind.
 */
export class SourceSession {
  readonly id: string
  readonly slot: number
  /** What the stages report with its tokens. */
  readonly measured = new MeasuredSteps()
  readonly #init: SourceSessionInit
  readonly #unread: SampledToken[] = []
  readonly #read: number[]
  #reader: PromiseWithResolvers<SampledToken> | undefined
  #failure: Error | undefined
  /** The token to feed next; undefined while its step is on the way, and after the last. */
  #next: number | undefined
  #drawn = 0
  /** The step that draws the next token: where it starts, and until when it may take. */
  #awaited: { position: number; deadline: NodeJS.Timeout } | undefined
  #stalled: NodeJS.Timeout | undefined

  constructor(init: SourceSessionInit) {
    this.#init = init
    this.id = init.id
    this.slot = init.slot
    this.#read = [...init.known]
  }

  /** True when a step may be made for it. */
  get ready(): boolean {
    return this.#next !== undefined && this.#failure === undefined && this.#unread.length < MAX_UNREAD_TOKENS
  }

  /** True while a token is awaited. */
  get stepping(): boolean {
    return this.#awaited !== undefined
  }

  /** True while the token is awaited that the prompt leads to. */
  get prefilling(): boolean {
    return this.stepping && this.#drawn === 0
  }

  /** Position at which the step starts that draws the awaited token. */
  get awaitedPosition(): number | undefined {
    return this.#awaited?.position
  }

  /** Prompt, and every token that was fed back and answered. */
  get cachedTokens(): number {
    const { prompt, known } = this.#init
    return this.#drawn === 0 ? 0 : prompt.length + known.length + this.#drawn - 1
  }

  get answerTokens(): AnswerTokens {
    const { known, maxTokens } = this.#init
    return { tokens: known.length + this.#drawn, leftTokens: maxTokens - this.#drawn }
  }

  /** A step of this session is on its way, or a prompt whose last step starts at `position`. */
  expectToken(position: number, deadlineMs: number, onLate: () => void): void {
    if (this.#failure === undefined) this.#awaited = { position, deadline: setTimeout(onLate, deadlineMs) }
  }

  /** The token to feed, and where; the session is ready again when its step is answered. */
  takeStep(): { token: number; position: number } {
    const token = this.#next!
    this.#next = undefined
    return { token, position: this.cachedTokens }
  }

  /** A token was drawn for it. */
  accept(token: SampledToken): void {
    this.#settle()
    this.#drawn++
    const { ends, maxTokens } = this.#init
    if (!ends.has(token.id) && this.#drawn < maxTokens) this.#next = token.id
    if (this.#reader === undefined) this.#keep(token)
    else this.#reader.resolve(token)
    this.#reader = undefined
  }

  /** Reads the next token; those that came before a failure are read first. One reader at a time. */
  async read(): Promise<SampledToken> {
    const token = this.#unread.shift() ?? (await this.#wait())
    this.#read.push(token.id)
    if (this.#unread.length === MAX_UNREAD_TOKENS - 1) {
      clearTimeout(this.#stalled)
      this.#init.onReady()
    }
    return token
  }

  fail(error: Error): void {
    this.#settle()
    clearTimeout(this.#stalled)
    this.#failure ??= error
    this.#reader?.reject(this.#failure)
    this.#reader = undefined
  }

  /** What it leaves in the KV caches; undefined where its prompt never got through. */
  conversation(): Conversation | undefined {
    if (this.#drawn === 0) return undefined
    const { prompt, ends, scope } = this.#init
    const tokens = [...prompt, ...this.#read.filter(token => !ends.has(token))]
    return { scope, tokens, cachedTokens: Math.min(this.cachedTokens, tokens.length) }
  }

  #keep(token: SampledToken): void {
    this.#unread.push(token)
    if (this.#unread.length < MAX_UNREAD_TOKENS) return
    const late = () => {
      this.fail(new Error(`nobody has read the answer for ${STALLED_READER_MS / 1000} s`))
      this.#init.onStalled()
    }
    this.#stalled = setTimeout(late, STALLED_READER_MS).unref()
  }

  #wait(): Promise<SampledToken> {
    if (this.#failure !== undefined) throw this.#failure
    this.#reader = Promise.withResolvers()
    return this.#reader.promise
  }

  #settle(): void {
    clearTimeout(this.#awaited?.deadline)
    this.#awaited = undefined
  }
}
