import type { AnswerGrammar } from '../../../models/grammar/grammars.ts'
import { keptLengths } from '../../../models/runtime/kept-states.ts'
import type { Pooling } from '../../../models/runtime/pooling.ts'
import type { SampledToken } from '../../../models/runtime/runtime.ts'
import type { TokenMask } from '../../../models/runtime/token-mask.ts'
import type { StageTiming } from '../../../protocols/stage/frame.ts'
import type { Guesses, Predicted } from '../../api.ts'
import type { Draft } from '../draft/draft.ts'
import { ExpectedTimes } from './expected-times.ts'
import type { Conversation } from './kv-slots.ts'
import { Lead } from './lead.ts'
import { MeasuredSteps } from './measured.ts'
import { prefillSteps } from './prefill-steps.ts'
import { PromptFeed } from './prompt-feed.ts'
import type { PromptProgress } from './prompt-progress.ts'
import { Speculation } from './speculation.ts'
import { SpeculationWindow } from './speculation-window.ts'
import { StepDeadline } from './step-deadline.ts'
import { UnreadTokens } from './unread-tokens.ts'

export interface SourceSessionInit {
  id: string
  slot: number
  prompt: readonly number[]
  /** Tokens of the answer that are known from another pipeline. */
  known: readonly number[]
  /** Tokens that end the answer. */
  ends: ReadonlySet<number>
  /** Tokens of the prompt that need not be computed. */
  fromToken: number
  /** Tokens to draw at most, those that are known not counted. */
  maxTokens: number
  /** The conversation that it belongs to; see `KvSlots`. */
  scope: string
  /** Whether it is to be the same to the bit in whatever steps and company. @default false */
  exact?: boolean | undefined
  /** The prompt's hidden states are pooled, in the place of drawing tokens behind it. */
  pooling?: Pooling | undefined
  /** The prediction for this prompt; its deadlines are made of it. */
  predicted: Predicted
  /** Guesses at what follows; absent: none are fed. */
  draft?: Draft | undefined
  /** What the answer has to look like; with it no guesses are fed. Absent: anything. */
  grammar?: Pick<AnswerGrammar, 'maskAfter'> | undefined
  /** The session whose place it is to take: what is certain there is fed here before it is drawn. */
  lead?: Lead | undefined
  /** Tokens that the model has. */
  vocabSize: number
  /** Some layers of the model have states. @default false */
  hasState?: boolean
  /** The session may take part in the next step, or feed a guess. */
  onReady: () => void
  /** The answer has not been read for so long that the session is over. */
  onStalled: () => void
}

/** The prompt that leads to the first token. */
interface AwaitedPrompt {
  /** Where its last step starts. */
  position: number
  /** Of one that goes through other peers' stages. */
  progress: PromptProgress | undefined
}

/** A token to feed, and where. */
export interface FedStep {
  token: number
  position: number
  epoch: number
  /** Tokens that may be drawn behind it; absent: all of them. */
  mask?: TokenMask | undefined
}

/** How long an answer is: its tokens so far, and those that may be drawn still. */
export interface AnswerTokens {
  tokens: number
  leftTokens: number
}

/** Tokens under way of a session that follows another one: every stage has one to compute, and few lie before others' steps. */
const MAX_LED_TOKENS = 8
/**
 * The same of sessions that follow others together: a step of several is overwritten by the one after the next
 * (`HiddenStates`).
 */
export const MAX_LED_TOGETHER = 2
/** Ends the wait for a token of a session that was paused: it comes from elsewhere. */
export const GOES_ON_ELSEWHERE = new Error('the answer goes on on other devices')

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
  /** How far its prompt is. */
  readonly prefilled: PromptFeed
  readonly #init: SourceSessionInit
  readonly #unread: UnreadTokens
  readonly #read: number[]
  readonly #pooled = Promise.withResolvers<Float32Array>()
  #failure: Error | undefined
  /** Tokens of the prompt, and what is known behind it, that all stages have. */
  #throughTokens = 0
  /** It was to be exact, and is not to the bit on all stages. */
  #rounded = false
  /** Its own numbers ended it. */
  #spoilt = false
  /** It ended while a step was under way, which some stages may have computed. */
  #cut = false
  /** It goes on elsewhere, unless that fails. */
  #isPaused = false
  /** The token to feed next; undefined while its step is on the way, and after the last. */
  #next: number | undefined
  #drawn = 0
  /** The tokens of the answer, where a grammar reads them. */
  readonly #answered: number[]
  /** What may follow the token to feed next. */
  #mask: TokenMask | undefined
  /** It is being asked for. */
  #masking = false
  #prompt: AwaitedPrompt | undefined
  /** Tokens that were fed back, behind the prompt, and are not answered. */
  readonly #window: SpeculationWindow
  #speculation: Speculation | undefined
  /** Its own tokens of which each can be fed. */
  readonly certain: Lead
  /** What it follows, until it goes alone. */
  #lead: Lead | undefined
  readonly #unfollow: (() => void) | undefined
  /** The last token that was fed when it was certain, and whether steps of wrong guesses were before it. */
  #certain: { position: number; place: 'clear' | 'behind' } = { position: 0, place: 'clear' }
  /** Guesses were wrong, and nothing was fed since. */
  #dropped = false
  readonly #deadline = new StepDeadline(() => this.#awaitedAt)

  constructor(init: SourceSessionInit) {
    this.#init = init
    this.id = init.id
    this.slot = init.slot
    this.prefilled = new PromptFeed(init.fromToken)
    const { predicted, prompt, known, maxTokens, draft, lead } = init
    const newTokens = known.length + maxTokens
    this.expected = new ExpectedTimes({ predicted, promptTokens: prompt.length, newTokens })
    this.#unread = new UnreadTokens({
      onRoom: init.onReady,
      onStalled: error => {
        this.fail(error)
        init.onStalled()
      }
    })
    this.#read = [...init.known]
    this.#answered = [...init.known]
    // `readPooled` rejects with what ended the session; an answer in tokens never reads it.
    this.#pooled.promise.catch(() => {})
    this.#window = new SpeculationWindow(draft === undefined && lead === undefined ? 0 : 1)
    this.certain = new Lead(known)
    this.#lead = lead
    this.#unfollow = lead?.follow(() => init.onReady())
    if (lead === undefined) this.#speculate()
  }

  /** Whether it follows another session. */
  get led(): boolean {
    return this.#lead !== undefined
  }

  /** Tokens of the prompt and of what it follows that it has not fed; of a prompt as far as is known. */
  get behindTokens(): number {
    const { prompt, known } = this.#init
    const there = this.#lead?.length ?? 0
    if (this.#drawn === 0) return prompt.length + there - this.#throughTokens
    return Math.max(0, there - (known.length + this.#drawn - 1 + this.#window.size))
  }

  /** It takes the place of what it followed: what comes next is known from nowhere else. */
  goAlone(): void {
    this.#unfollow?.()
    this.#lead = undefined
    this.#speculate()
    this.#init.onReady()
  }

  /** Feeds nothing more, or again; what is under way still comes, and nobody waits for more. */
  pause(isPaused: boolean): void {
    this.#isPaused = isPaused
    if (!isPaused) this.#init.onReady()
    else this.#sendReaderOn()
  }

  /** Tells who waits for a token that does not come, as it is paused, to go where it comes. */
  #sendReaderOn(): void {
    if (this.#isPaused && !this.busy) this.#unread.sendOn(GOES_ON_ELSEWHERE)
  }

  /** Begins to guess behind what is certain, where there is a draft. */
  #speculate(): void {
    const { draft, prompt, ends, vocabSize, onReady: onProposed } = this.#init
    const tokens = [...prompt, ...this.certain.ids]
    const ledTokens = Math.max(0, this.#window.size - 1)
    this.#speculation = draft && new Speculation({ draft, tokens, ledTokens, ends, vocabSize, onProposed })
  }

  /** What became of its guesses; undefined where it makes none. */
  get guesses(): Guesses | undefined {
    return this.#speculation?.guesses
  }

  get scope(): string {
    return this.#init.scope
  }

  /** Whether hidden states are pooled, and no token is drawn. */
  get pools(): boolean {
    return this.#init.pooling !== undefined
  }

  /** Steps of earlier ones are stale. */
  get epoch(): number {
    return this.#window.epoch
  }

  /** True when a step may be made for it. */
  get ready(): boolean {
    return this.#next !== undefined && this.#failure === undefined && this.#mayFeed
  }

  get #mayFeed(): boolean {
    return !this.#isPaused && !this.#unread.isFull
  }

  /** Steps under way. */
  get underWay(): number {
    return this.#window.size
  }

  /** True while a token is awaited. */
  get stepping(): boolean {
    return this.#prompt !== undefined || this.#window.size > 0
  }

  /** True while the token is awaited from a step at that position, or from one before it. */
  awaits(position: number): boolean {
    return this.stepping && this.#awaitedAt! <= position
  }

  /** True while its next step is on its way, or what may be drawn in it is looked up: others wait for it. */
  get busy(): boolean {
    return this.stepping || (this.#masking && this.#failure === undefined)
  }

  /** True while the token is awaited that the prompt leads to. */
  get prefilling(): boolean {
    return this.stepping && this.#drawn === 0
  }

  /** Tokens that are to be computed before the first one is drawn. */
  get promptTokens(): number {
    const { prompt, known, fromToken } = this.#init
    return prompt.length + known.length - fromToken
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

  /** The prompt's last step starts at `position`. */
  expectToken(position: number, progress?: PromptProgress): void {
    if (this.#failure === undefined) this.#prompt = { position, progress }
  }

  /** The step at `position` is with other peers now: from when all before it is answered it may take so long. */
  awaitUntil(
    { position, epoch }: Pick<FedStep, 'position' | 'epoch'>,
    deadlineMs: number,
    onLate: () => void
  ): void {
    const awaited = this.#prompt?.position === position || this.#window.awaits(position, epoch)
    if (awaited) this.#deadline.sent({ position, deadlineMs, onLate })
  }

  /** False of a step that was not to draw a token, while one is awaited. */
  mayDraw(position: number, epoch: number): boolean {
    if (this.#prompt !== undefined) {
      return position === this.#prompt.position || this.#prompt.progress?.expects(position) === true
    }
    return this.#window.size === 0 || this.#window.kindOf(position, epoch) !== 'unasked'
  }

  /** True of a token that nobody waits for: its step was a guess behind a wrong one, or the session has ended. */
  isStale(epoch: number): boolean {
    return !this.stepping || epoch < (this.#prompt === undefined ? this.#window.epoch : 0)
  }

  /** A token came back from a step: true where that only shows how far the prompt is. */
  passed(position: number): boolean {
    const { position: last, progress } = this.#prompt ?? {}
    if (progress === undefined || position === last) return false
    progress.passed(position)
    this.through(progress.throughTokens)
    return true
  }

  /** All stages have opened it. @param exact whether all that it has there, and gets, is computed to the bit */
  opened(exact: boolean): void {
    this.#rounded = this.#init.exact === true && !exact
    this.through(this.#init.fromToken)
  }

  /** All stages have the first so many tokens in their KV caches. */
  through(tokens: number): void {
    this.#throughTokens = Math.max(this.#throughTokens, tokens)
    this.prefilled.moved(tokens)
  }

  /** What may be drawn behind the prompt; undefined: anything, or the session has failed. */
  async firstMask(): Promise<TokenMask | undefined> {
    try {
      return await this.#init.grammar?.maskAfter(this.#answered)
    } catch (error) {
      this.fail(error instanceof Error ? error : new Error(String(error)))
      return undefined
    }
  }

  /** The token to feed, and where; the session is ready again when its step is answered. */
  takeStep(): FedStep {
    const token = this.#next!
    const position = this.cachedTokens
    this.#next = undefined
    this.#certain = { position, place: this.#dropped ? 'behind' : 'clear' }
    this.#dropped = false
    this.#window.feed(position, token)
    return { token, position, epoch: this.#window.epoch, mask: this.#mask }
  }

  /** A guess to feed behind what is under way; undefined where none may be, or none is known. */
  takeGuess(): FedStep | undefined {
    if (this.#lead !== undefined) return this.#takeLed(this.#lead)
    const { size, guesses, epoch } = this.#window
    if (this.#speculation === undefined || size === 0 || !this.#mayFeed) return undefined
    const token = this.#speculation.next(guesses, this.#init.maxTokens - this.#drawn - size)
    return token === undefined ? undefined : { token, position: this.#window.guess(token), epoch }
  }

  /** The next token that is certain where it follows, as a guess that holds. */
  #takeLed(lead: Lead): FedStep | undefined {
    const { size, epoch } = this.#window
    const { known, maxTokens } = this.#init
    if (size === 0 || size >= MAX_LED_TOKENS || !this.#mayFeed) return undefined
    const token = lead.at(known.length + this.#drawn - 1 + size)
    if (token === undefined || this.#drawn + size >= maxTokens) return undefined
    return { token: token.id, position: this.#window.guess(token.id), epoch, mask: token.mask }
  }

  /** Whether what the model makes of its tokens is wanted. */
  get sees(): boolean {
    return this.#init.draft?.saw !== undefined
  }

  /** What the model made of its tokens from `position` on, (tokens, hidden). */
  saw(position: number, states: Float32Array): void {
    this.#speculation?.saw(position, states)
  }

  /** What the stages took for the token that is awaited from `position`. */
  timed(timings: readonly StageTiming[], receivedAtMs: number, position: number): void {
    const { position: certainAt, place } = this.#certain
    this.#speculation?.timed(timings, receivedAtMs, position === certainAt ? place : undefined)
  }

  /** A token was drawn for it. @returns true where guesses were wrong: what is under way is stale */
  accept(token: SampledToken): boolean {
    this.#deadline.answered()
    const first = this.#prompt !== undefined
    const speculated = this.#window.size > 1
    const judged = first ? { valid: 1, held: 0, dropped: 0 } : this.#window.answer([token.id])
    this.#speculation?.drawn(token.id, judged, speculated)
    this.#prompt?.progress?.end()
    this.#prompt = undefined
    this.prefilled.end()
    this.#drawn++
    const { ends, maxTokens } = this.#init
    const over = ends.has(token.id) || this.#drawn >= maxTokens
    const stale = judged.dropped > 0 || (over && this.#window.clear() > 0)
    if (stale) this.#deadline.forget()
    this.#dropped = stale
    this.#answered.push(token.id)
    if (!over && this.#window.size === 0) this.#follow(token.id)
    else if (!over) this.certain.add({ id: token.id, mask: this.#lead?.at(this.certain.length)?.mask })
    this.#deadline.watch()
    this.#unread.add(token)
    return stale
  }

  /** The whole prompt's hidden states come to this: the session has what it was opened for. */
  acceptPooled(pooled: Float32Array): void {
    this.#settle()
    this.#pooled.resolve(pooled)
  }

  /** What the prompt's hidden states come to. */
  readPooled(): Promise<Float32Array> {
    return this.#pooled.promise
  }

  /** Reads the next token; those that came before a failure are read first. One reader at a time. */
  async read(): Promise<SampledToken> {
    const token = this.#unread.take() ?? (await this.#wait())
    this.#read.push(token.id)
    return token
  }

  fail(error: Error): void {
    this.#cut ||= this.stepping
    this.#settle()
    this.#unfollow?.()
    this.#failure ??= error
    this.#unread.end(this.#failure)
    this.#pooled.reject(this.#failure)
  }

  /** It fails by what was computed for it alone: nothing of that is used again. */
  spoil(error: Error): void {
    this.#spoilt = true
    this.fail(error)
  }

  /** What it has in the KV caches of all stages, and leaves there, of a prompt that did not get through as much as did; undefined where that is nothing. */
  conversation(): Conversation | undefined {
    const { prompt, ends, scope, exact = false } = this.#init
    const tokens = [...prompt, ...this.#read.filter(token => !ends.has(token))]
    const cachedTokens = Math.min(this.#drawn === 0 ? this.#throughTokens : this.cachedTokens, tokens.length)
    if (cachedTokens === 0 || this.pools || this.#spoilt) return undefined
    const kept = { scope, tokens, promptTokens: prompt.length, cachedTokens, ...this.#states(cachedTokens) }
    return { ...kept, ...(exact && { exact }), ...(this.#rounded && { rounded: true }) }
  }

  /** The tokens of which every stage has a state, where the model has such: of a prompt that did not get through, none for certain. */
  #states(cachedTokens: number): Pick<Conversation, 'states'> {
    const { prompt, known, exact, fromToken, hasState } = this.#init
    if (!hasState) return {}
    if (this.#drawn === 0) return { states: [] }
    const steps = prefillSteps({ prompt, known, exact, hasState }, { fromToken, keepTokens: fromToken })
    const kept = keptLengths(fromToken, [...steps.map(({ tokens }) => tokens.length), 1])
    return { states: this.#cut || cachedTokens < this.cachedTokens ? kept : [...kept, cachedTokens] }
  }

  /** The next step feeds this token, once it is known what may be drawn behind it. */
  #follow(token: number): void {
    const { grammar, onReady } = this.#init
    if (grammar === undefined) {
      this.#next = token
      this.certain.add({ id: token })
      return
    }
    this.#masking = true
    void grammar
      .maskAfter(this.#answered)
      .then(
        mask => {
          this.#mask = mask
          this.#next = token
          this.certain.add({ id: token, mask })
        },
        error => this.fail(error instanceof Error ? error : new Error(String(error)))
      )
      .finally(() => {
        this.#masking = false
        this.#sendReaderOn()
        onReady()
      })
  }

  #wait(): Promise<SampledToken> {
    if (this.#failure === undefined && this.#isPaused && !this.busy) throw GOES_ON_ELSEWHERE
    return this.#unread.next()
  }

  /** Position of the step that is to be answered next. */
  get #awaitedAt(): number | undefined {
    return this.#prompt?.position ?? this.#window.oldest
  }

  #settle(): void {
    this.#deadline.forget()
    this.prefilled.end()
    this.#prompt?.progress?.end()
    this.#prompt = undefined
    this.#window.clear()
  }
}
