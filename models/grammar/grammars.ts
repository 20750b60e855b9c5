import { createHash } from 'node:crypto'
import type { TokenMask } from '../runtime/token-mask.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import type { Constraint } from './constraint.ts'
import { asGrammarError, GrammarError, GrammarsBusyError } from './errors.ts'
import { type GrammarDeadlines, GrammarThread } from './grammar-thread.ts'

/** A large vocabulary takes a few seconds on a small device that does other things. */
const DEADLINES: GrammarDeadlines = { startMs: 30_000, compileMs: 5000, maskMs: 5000 }
/** Each holds one grammar, and 60 to 200 MB with a vocabulary of 32,000 to 150,000 tokens. */
const MAX_THREADS = 4
/** So long a form waits for one of them: answers of other forms may take minutes, and take turns. */
const WAIT_MS = 120_000
const IDLE_MS = 300_000

/** Where an answer is in its grammar. */
export interface AnswerGrammar {
  /**
   * What may follow the answer's tokens so far. They may be others than before: what they have in common with those of the last
   * call is not read again.
   *
   * @throws {GrammarError} where the grammar has ended, or its thread
   */
  maskAfter(tokens: readonly number[]): Promise<TokenMask>
  close(): void
}

export interface GrammarsInit {
  deadlines?: Partial<GrammarDeadlines>
  /** @default MAX_THREADS */
  threads?: number
  /** How long a form waits for a thread that others' answers hang on. @default WAIT_MS */
  waitMs?: number
}

/** A model's tokens, as grammars see them. */
export interface GrammarVocabulary {
  /** The model's. */
  id: string
  tokenizer: Pick<Tokenizer, 'tokenBytes' | 'vocabSize'>
  /** Tokens that the model has, more than its tokenizer names perhaps. */
  vocabSize: number
  /** Tokens that end an answer. */
  endIds: readonly number[]
}

interface Held {
  thread: GrammarThread
  /** The vocabulary that it has. */
  vocabulary: string
  /** The grammar that it has, by the constraint that it is made of; undefined: none. */
  grammar: string | undefined
  /** Resolves when that is compiled. */
  compiled: Promise<void>
  answers: number
  idle: NodeJS.Timeout | undefined
}

/**
 * Compiled grammars, each in a thread of its own: answers of the same grammar share one, and a grammar is never compiled in
 * a thread that answers hang on. There are a few at most; who needs another one waits for its turn.
 */
export class Grammars {
  readonly #deadlines: GrammarDeadlines
  readonly #most: number
  readonly #waitMs: number
  readonly #held = new Set<Held>()
  readonly #line: (() => void)[] = []
  #answers = 0
  #closed: Error | undefined

  constructor({ deadlines, threads = MAX_THREADS, waitMs = WAIT_MS }: GrammarsInit = {}) {
    this.#deadlines = { ...DEADLINES, ...deadlines }
    this.#most = threads
    this.#waitMs = waitMs
  }

  /**
   * An answer that is to be of a form.
   *
   * @throws {GrammarError} where the form cannot be kept to, {GrammarsBusyError} where it would have to wait too long
   */
  async open(
    constraint: Constraint,
    vocabulary: GrammarVocabulary,
    { signal }: { signal: AbortSignal }
  ): Promise<AnswerGrammar> {
    if (vocabulary.endIds.length === 0) throw new GrammarError('the model has no token that ends an answer')
    const text = textOf(constraint)
    const held = await this.#holder(keyOf(vocabulary), createHash('sha256').update(text).digest('hex'), {
      vocabulary,
      constraint: text,
      signal
    })
    const answer = ++this.#answers
    try {
      await held.compiled
      signal.throwIfAborted()
    } catch (error) {
      this.#leave(held)
      throw error
    }
    return new OpenAnswer(held.thread, answer, () => this.#leave(held))
  }

  /** @param reason what whoever still waits, or asks, rejects with */
  close(reason: Error = new GrammarError('no grammars are held any more')): void {
    this.#closed = reason
    for (const held of this.#held) this.#end(held, reason)
    for (const go of this.#line.splice(0)) go()
  }

  /** A thread with that grammar, with one more answer. */
  async #holder(
    vocabularyKey: string,
    grammarKey: string,
    asked: { vocabulary: GrammarVocabulary; constraint: string; signal: AbortSignal }
  ): Promise<Held> {
    const endMs = performance.now() + this.#waitMs
    for (;;) {
      asked.signal.throwIfAborted()
      if (this.#closed !== undefined) throw this.#closed
      for (const held of this.#held) if (held.thread.isOver) this.#held.delete(held)
      const all = [...this.#held]
      const same = all.find(
        ({ vocabulary, grammar }) => vocabulary === vocabularyKey && grammar === grammarKey
      )
      const held = same ?? this.#free(all, vocabularyKey, asked.vocabulary)
      if (held === undefined) {
        await this.#turn(asked.signal, endMs)
        continue
      }
      held.answers++
      clearTimeout(held.idle)
      if (held !== same) {
        held.grammar = grammarKey
        held.compiled = held.thread.compile(asked.constraint).catch((error: unknown) => {
          held.grammar = undefined
          throw error
        })
        // Each `open` that waits for it rejects with it.
        held.compiled.catch(() => {})
      }
      return held
    }
  }

  /** A thread that no answer hangs on; undefined: all of them are taken. */
  #free(all: readonly Held[], key: string, vocabulary: GrammarVocabulary): Held | undefined {
    const idle = all.filter(({ answers }) => answers === 0)
    const fitting = idle.find(held => held.vocabulary === key)
    if (fitting !== undefined) return fitting
    if (all.length >= this.#most) {
      const [other] = idle
      if (other === undefined) return undefined
      this.#end(other, 'another vocabulary needs its place')
    }
    const thread = new GrammarThread(setupOf(vocabulary), this.#deadlines)
    const held = {
      thread,
      vocabulary: key,
      grammar: undefined,
      compiled: Promise.resolve(),
      answers: 0,
      idle: undefined
    }
    this.#held.add(held)
    return held
  }

  #leave(held: Held): void {
    if (--held.answers > 0) return
    held.idle = setTimeout(() => this.#end(held, 'nobody needs it'), IDLE_MS).unref()
    // All of them, in their order: the first may have left, and others may share the form that it brings.
    for (const go of this.#line.splice(0)) go()
  }

  #end(held: Held, reason: string | Error): void {
    clearTimeout(held.idle)
    this.#held.delete(held)
    held.thread.end(reason)
  }

  #turn(signal: AbortSignal, endMs: number): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const leave = (reason: unknown) => {
      const at = this.#line.indexOf(go)
      if (at >= 0) this.#line.splice(at, 1)
      over()
      reject(reason)
    }
    const onAbort = () => leave(signal.reason)
    const onLate = () =>
      leave(new GrammarsBusyError(`answers of ${this.#most} other forms run; try again later`))
    const late = setTimeout(onLate, Math.max(0, endMs - performance.now()))
    const over = () => {
      clearTimeout(late)
      signal.removeEventListener('abort', onAbort)
    }
    const go = () => {
      over()
      resolve()
    }
    signal.addEventListener('abort', onAbort, { once: true })
    this.#line.push(go)
    return promise
  }
}

class OpenAnswer implements AnswerGrammar {
  readonly #thread: GrammarThread
  readonly #answer: number
  readonly #onClose: () => void
  #read: readonly number[] = []
  #closed = false

  constructor(thread: GrammarThread, answer: number, onClose: () => void) {
    this.#thread = thread
    this.#answer = answer
    this.#onClose = onClose
  }

  async maskAfter(tokens: readonly number[]): Promise<TokenMask> {
    let keep = 0
    while (keep < this.#read.length && keep < tokens.length && this.#read[keep] === tokens[keep]) keep++
    this.#read = [...tokens]
    return await this.#thread.mask({ answer: this.#answer, keep, tokens: tokens.slice(keep) })
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#thread.close(this.#answer)
    this.#onClose()
  }
}

function keyOf({ id, endIds }: GrammarVocabulary): string {
  return `${id} ${endIds.join(' ')}`
}

function textOf(constraint: Constraint): string {
  try {
    return JSON.stringify(constraint)
  } catch (error) {
    throw asGrammarError(error)
  }
}

function setupOf({ tokenizer, vocabSize, endIds }: GrammarVocabulary) {
  const parts = Array.from({ length: vocabSize }, (_, id) => tokenizer.tokenBytes(id))
  const offsets = new Uint32Array(vocabSize + 1)
  for (const [id, part] of parts.entries()) offsets[id + 1] = offsets[id]! + part.byteLength
  const bytes = new Uint8Array(offsets[vocabSize]!)
  for (const [id, part] of parts.entries()) bytes.set(part, offsets[id]!)
  return { bytes, offsets, vocabSize, endIds: [...endIds] }
}
