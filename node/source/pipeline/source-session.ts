import type { SampledToken } from '../../../models/runtime/runtime.ts'
import type { Predicted } from '../../api.ts'
import { ExpectedTimes } from './expected-times.ts'
import type { Conversation } from './kv-slots.ts'
import { MeasuredSteps } from './measured.ts'
import type { PromptProgress } from './prompt-progress.ts'

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
  /** Whether it is to be the same to the bit in whatever steps and company. @default false */
  exact?: boolean | undefined
  /** The prediction for this prompt; its deadlines are made of it. */
  predicted: Predicted
  /** The session may take part in the next step. */
  onReady: () => void
  /** The answer has not been read for so long that the session is over. */
  onStalled: () => void
}

/** The step that draws the next token, or a prompt that leads to it. */
interface Awaited {
  /** Where it starts. */
  position: number
  /** Of a prompt that goes through other peers' stages. */
  progress: PromptProgress | undefined
  deadline: NodeJS.Timeout | undefined
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
  readonly expected: ExpectedTimes
  readonly #init: SourceSessionInit
  readonly #unread: SampledToken[] = []
  readonly #read: number[]
  #reader: PromiseWithResolvers<SampledToken> | undefined
  #failure: Error | undefined
  /** The token to feed next; undefined while its step is on the way, and after the last. */
  #next: number | undefined
  #drawn = 0
  #awaited: Awaited | undefined
  #stalled: NodeJS.Timeout | undefined

  constructor(init: SourceSessionInit) {
    this.#init = init
    this.id = init.id
    this.slot = init.slot
    const { predicted, prompt, known, maxTokens } = init
    const newTokens = known.length + maxTokens
    this.expected = new ExpectedTimes({ predicted, promptTokens: prompt.length, newTokens })
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

  /** What it adds to a round of everybody's steps, at most: a step of its own, or a chunk of its prompt. */
  get roundMs(): number {
    return this.prefilling ? this.expected.chunkMs : this.expected.stepMs(this.cachedTokens)
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

  /** A step of this session that starts at `position` draws its next token, or a prompt whose last step does. */
  expectToken(position: number, progress?: PromptProgress): void {
    if (this.#failure === undefined) this.#awaited = { position, progress, deadline: undefined }
  }

  /** The step at `position` is with other peers now: if its token is not here already, it may take so long. */
  awaitUntil(position: number, deadlineMs: number, onLate: () => void): void {
    if (this.#awaited?.position === position) this.#awaited.deadline = setTimeout(onLate, deadlineMs)
  }

  /** False of a step that was not to draw a token, while one is awaited. */
  mayDraw(position: number): boolean {
    const { position: awaited, progress } = this.#awaited ?? {}
    return awaited === undefined || awaited === position || progress?.expects(position) === true
  }

  /** A token came back from a step: true where that only shows how far the prompt is. */
  passed(position: number): boolean {
    const { position: last, progress } = this.#awaited ?? {}
    if (progress === undefined || position === last) return false
    progress.passed(position)
    return true
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
    const { prompt, ends, scope, exact = false } = this.#init
    const tokens = [...prompt, ...this.#read.filter(token => !ends.has(token))]
    const cachedTokens = Math.min(this.cachedTokens, tokens.length)
    return { scope, tokens, cachedTokens, ...(exact && { exact }) }
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
    this.#awaited?.progress?.end()
    this.#awaited = undefined
  }
}
