import { randomBytes } from 'node:crypto'
import type { ReplyPart } from '../../../models/reply/parts.ts'
import type { ReplyReader } from '../../../models/reply/reader.ts'
import type { GenerateEvent, TokenLogprob, ToolCall } from '../../api.ts'

/** How many hexadecimal digits tell calls apart. */
const ID_BYTES = 12

/** The events of a reply, made of its text as it is written, and what they are together. */
export class Reply {
  readonly #reader: ReplyReader | undefined
  /** Tokens whose text was in no event yet. */
  #unsaid: { token: TokenLogprob; atMs: number }[] = []
  #calls: ToolCall[] = []
  readonly #whole = new Set<number>()
  text = ''
  reasoning = ''

  /** @param reader undefined: all of it is text */
  constructor(reader: ReplyReader | undefined) {
    this.#reader = reader
  }

  /** Calls whose arguments are whole. */
  get toolCalls(): ToolCall[] {
    return this.#calls.filter((_, index) => this.#whole.has(index))
  }

  /** @param atMs when it was drawn */
  drawn(token: TokenLogprob, atMs: number): void {
    this.#unsaid.push({ token, atMs })
  }

  say(text: string): GenerateEvent[] {
    if (this.#reader === undefined) return text === '' ? [] : [this.#said('text', text)]
    return this.#reader.push(text).map(part => this.#event(part))
  }

  /** The last events, with tokens that have no text of their own. */
  end(): GenerateEvent[] {
    const events = (this.#reader?.end() ?? []).map(part => this.#event(part))
    return this.#unsaid.length === 0 ? events : [...events, this.#said('text', '')]
  }

  #event(part: ReplyPart): GenerateEvent {
    // Tokens of a call are no part of the text.
    if (part.kind === 'call' || part.kind === 'arguments' || part.kind === 'called') this.#unsaid = []
    switch (part.kind) {
      case 'text':
      case 'reasoning':
        return this.#said(part.kind, part.text)
      case 'broken':
        return this.#said('text', part.text)
      case 'call': {
        const { index, name } = part
        const id = part.id ?? `call_${randomBytes(ID_BYTES).toString('hex')}`
        this.#calls[index] = { id, name, arguments: '' }
        return { type: 'call', index, id, name }
      }
      case 'arguments':
        this.#calls[part.index]!.arguments += part.text
        return { type: 'arguments', index: part.index, text: part.text }
      default:
        this.#whole.add(part.index)
        return { type: 'called', index: part.index }
    }
  }

  #said(type: 'text' | 'reasoning', text: string): GenerateEvent {
    if (type === 'text') this.text += text
    else this.reasoning += text
    const drawn = this.#unsaid
    this.#unsaid = []
    const logprobs = drawn.map(({ token }) => token)
    const drawnAtMs = drawn.map(({ atMs }) => atMs)
    return { type, text, tokens: logprobs.map(({ id }) => id), logprobs, drawnAtMs }
  }
}
