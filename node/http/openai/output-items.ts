import type { GenerateEvent } from '../../api.ts'

type Json = Record<string, unknown>

/** An event of a streamed response, without its number. */
export type OutputEvent = Json & { type: string }

/** The item that is being said. */
type Open =
  | { kind: 'reasoning' | 'message'; id: string; text: string }
  | { kind: 'call'; id: string; callId: string; name: string; arguments: string; isWhole: boolean }

/** The items of one response: thoughts, messages and calls, one after the other, each with the events that tell of it. */
export class OutputItems {
  readonly #newId: (prefix: string) => string
  #index = -1
  #open: Open | undefined
  /** Items that are whole. */
  readonly whole: Json[] = []

  constructor(newId: (prefix: string) => string) {
    this.#newId = newId
  }

  *on(event: GenerateEvent): Generator<OutputEvent> {
    switch (event.type) {
      case 'text':
        if (event.text !== '') yield* this.#said('message', event.text)
        break
      case 'reasoning':
        if (event.text !== '') yield* this.#said('reasoning', event.text)
        break
      case 'call': {
        const call = { callId: event.id, name: event.name, arguments: '', isWhole: false }
        yield* this.#begin({ kind: 'call', id: this.#newId('fc'), ...call })
        break
      }
      case 'arguments':
        if (this.#open?.kind === 'call') {
          this.#open.arguments += event.text
          yield this.#about('response.function_call_arguments.delta', { delta: event.text })
        }
        break
      case 'called':
        if (this.#open?.kind === 'call') this.#open.isWhole = true
        yield* this.close()
        break
      default:
    }
  }

  /** Ends the item that is being said. */
  *close(): Generator<OutputEvent> {
    const open = this.#open
    if (open === undefined) return
    if (open.kind === 'call') {
      const { name, arguments: given } = open
      yield this.#about('response.function_call_arguments.done', { name, arguments: given })
    } else {
      const about = { content_index: 0 }
      const isText = open.kind === 'message'
      const done = isText ? 'response.output_text.done' : 'response.reasoning_text.done'
      yield this.#about(done, { ...about, text: open.text, ...(isText && { logprobs: [] }) })
      yield this.#about('response.content_part.done', { ...about, part: partOf(open.kind, open.text) })
    }
    const item = itemOf(open, true)
    yield { type: 'response.output_item.done', output_index: this.#index, item }
    // What had begun as a call and is none follows as text.
    if (open.kind !== 'call' || open.isWhole) this.whole.push(item)
    this.#open = undefined
  }

  *#said(kind: 'reasoning' | 'message', text: string): Generator<OutputEvent> {
    if (this.#open?.kind !== kind) {
      yield* this.#begin({ kind, id: this.#newId(kind === 'message' ? 'msg' : 'rs'), text: '' })
      yield this.#about('response.content_part.added', { content_index: 0, part: partOf(kind, '') })
    }
    if (this.#open?.kind === kind) this.#open.text += text
    const type = kind === 'message' ? 'response.output_text.delta' : 'response.reasoning_text.delta'
    yield this.#about(type, { content_index: 0, delta: text, ...(kind === 'message' && { logprobs: [] }) })
  }

  *#begin(open: Open): Generator<OutputEvent> {
    yield* this.close()
    this.#open = open
    this.#index++
    yield { type: 'response.output_item.added', output_index: this.#index, item: itemOf(open, false) }
  }

  #about(type: string, fields: Json): OutputEvent {
    return { type, item_id: this.#open!.id, output_index: this.#index, ...fields }
  }
}

function itemOf(open: Open, isOver: boolean): Json {
  const status = isOver ? 'completed' : 'in_progress'
  if (open.kind === 'call') {
    const { id, callId, name, arguments: given, isWhole } = open
    const how = isOver && !isWhole ? 'incomplete' : status
    return { type: 'function_call', id, call_id: callId, name, arguments: given, status: how }
  }
  const { kind, id, text } = open
  const content = isOver ? [partOf(kind, text)] : []
  return kind === 'message'
    ? { type: 'message', id, status, role: 'assistant', content }
    : { type: 'reasoning', id, status, summary: [], content }
}

function partOf(kind: 'reasoning' | 'message', text: string): Json {
  return kind === 'message'
    ? { type: 'output_text', text, annotations: [], logprobs: [] }
    : { type: 'reasoning_text', text }
}
