import { harmonyMessages } from './harmony.ts'
import { Held } from './held.ts'
import { hermes, json, llama3 } from './json-calls.ts'
import { deepseek, mistral } from './marked-calls.ts'
import type { ReplyPart, ReplySyntax } from './parts.ts'
import type { CallReader, Reading, State } from './state.ts'
import { glm, parameters } from './tagged-calls.ts'

const CALL_READERS: Record<Exclude<ReplySyntax['calls'], 'harmony'>, CallReader> = {
  hermes,
  llama3,
  mistral,
  deepseek,
  glm,
  parameters,
  json
}

export interface ReplyReaderInit {
  syntax: ReplySyntax
  /** Tools that may be called, with the JSON schema of each one's arguments; none: nothing is a call. */
  tools: ReadonlyMap<string, unknown>
  /** The prompt has opened a thought already. */
  isThinking: boolean
}

/**
 * Takes a reply apart while it is written: thoughts, text, and calls of tools. However its text is cut into pieces, the
 * parts are the same but for their cuts, and nothing of it is lost: what looks like a call and is none is text.
 */
export class ReplyReader {
  readonly #reading: Reading
  #state: State

  constructor({ syntax, tools, isThinking }: ReplyReaderInit) {
    this.#reading = { syntax, tools, held: new Held(), parts: [], calls: 0 }
    const calls = syntax.calls === 'harmony' ? undefined : CALL_READERS[syntax.calls]
    const answer = answerWith(tools.size === 0 ? undefined : calls)
    if (calls === undefined) this.#state = harmonyMessages
    else if (syntax.thoughts === undefined) this.#state = answer.first
    else this.#state = beginning(syntax.thoughts, isThinking, answer)
  }

  push(text: string): ReplyPart[] {
    this.#reading.held.push(text)
    return this.#read()
  }

  /** The reply is over: what was held back. */
  end(): ReplyPart[] {
    this.#reading.held.isLast = true
    return this.#read()
  }

  #read(): ReplyPart[] {
    const { held, parts } = this.#reading
    for (;;) {
      const before = this.#state
      const length = held.text.length
      this.#state = before(this.#reading)
      if (this.#state === before && held.text.length === length) return parts.splice(0)
    }
  }
}

/** Text with calls: `first` is where a reply begins, `behind` where one goes on behind a thought. */
interface Answer {
  first: State
  behind: State
}

function answerWith(calls: CallReader | undefined): Answer {
  if (calls === undefined) {
    const plain: State = reading => {
      const text = reading.held.take(reading.held.text.length)
      if (text !== '') reading.parts.push({ kind: 'text', text })
      return plain
    }
    return { first: plain, behind: behindSpace(plain) }
  }
  const text: State = reading => {
    const { held, parts } = reading
    const { at, mark } = held.find(calls.openers)
    // White space before a call is none of the answer; elsewhere it is shown when it turns out to stand there.
    const waits = mark !== undefined || !held.isLast
    const shown = waits ? held.text.slice(0, at).trimEnd().length : at
    if (shown > 0) parts.push({ kind: 'text', text: held.take(shown) })
    return mark === undefined ? text : calls.opened(held.take(at - shown + mark.length), ways)
  }
  const ways = { done: behindSpace(text), broken: text }
  const first = calls.opening?.(ways) ?? text
  return { first, behind: behindSpace(first) }
}

/** Skips white space before `next`. */
function behindSpace(next: State): State {
  const state: State = ({ held }) => {
    held.takeSpace()
    return held.text === '' && !held.isLast ? state : next
  }
  return state
}

/** The beginning of a reply of a model that thinks. */
function beginning([open, close]: readonly [string, string], isThinking: boolean, answer: Answer): State {
  const thinking = thought(close, answer.behind)
  if (isThinking) return behindSpace(thinking)
  const state: State = ({ held }) => {
    const text = held.text.trimStart()
    if (text.startsWith(open)) {
      held.take(held.text.length - text.length + open.length)
      return behindSpace(thinking)
    }
    return !held.isLast && open.startsWith(text) ? state : answer.first
  }
  return state
}

/** A thought, up to where it is closed. White space around it is none of it. */
function thought(close: string, next: State): State {
  const state: State = ({ held, parts }) => {
    const { at, mark } = held.find([close])
    const shown = held.text.slice(0, at).trimEnd().length
    if (shown > 0) parts.push({ kind: 'reasoning', text: held.take(shown) })
    if (mark !== undefined) {
      held.take(at - shown + mark.length)
      return next
    }
    if (held.isLast) held.take(held.text.length)
    return state
  }
  return state
}
