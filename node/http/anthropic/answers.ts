import { randomUUID } from 'node:crypto'
import type { GenerateEvent, GenerateResult } from '../../api.ts'
import { type AnswerForm, pacedForComments, promptComment, resultOf, sse } from '../answer.ts'
import { HttpError } from '../errors.ts'
import { anthropicError } from './errors.ts'

type Json = Record<string, unknown>

const PING = sse({ type: 'ping' }, 'ping')

/** Anthropic's messages, whole and as named server-sent events. */
export function messagesForm(model: string): AnswerForm {
  const head = {
    id: `msg_${randomUUID().replaceAll('-', '')}`,
    type: 'message',
    role: 'assistant',
    model
  }
  return {
    contentType: 'text/event-stream',
    heartbeat: PING,
    pieces: events => pieces(head, events),
    whole: async events => {
      const result = whole(await resultOf(events))
      return {
        result,
        body: { ...head, content: contentOf(result), ...endOf(result), usage: usageOf(result) }
      }
    }
  }
}

/** @throws {HttpError} where devices were lost on the way: Anthropic's API has no name for such an end */
function whole(result: GenerateResult): GenerateResult {
  if (result.error !== undefined) throw new HttpError('stage_lost', result.error)
  return result
}

function contentOf({ reasoning, text, toolCalls = [] }: GenerateResult): Json[] {
  const calls = toolCalls.map(({ id, name, arguments: input }) => ({
    type: 'tool_use',
    id,
    name,
    input: JSON.parse(input)
  }))
  return [
    ...(reasoning === undefined ? [] : [{ type: 'thinking', thinking: reasoning, signature: '' }]),
    ...(text === '' && calls.length > 0 ? [] : [{ type: 'text', text }]),
    ...calls
  ]
}

function endOf({ finishReason, stopString, toolCalls = [] }: GenerateResult): Json {
  return { stop_reason: stopReason(), stop_sequence: stopString ?? null }

  function stopReason(): string {
    if (finishReason !== 'stop') return 'max_tokens'
    if (stopString !== undefined) return 'stop_sequence'
    return toolCalls.length > 0 ? 'tool_use' : 'end_turn'
  }
}

/** As Anthropic counts: cached tokens are not among the others. */
function usageOf({ promptTokens, cachedTokens, tokens }: GenerateResult): Json {
  return {
    input_tokens: promptTokens - cachedTokens,
    cache_read_input_tokens: cachedTokens,
    cache_creation_input_tokens: 0,
    output_tokens: tokens.length
  }
}

/** The answer as a stream: blocks of thought, text and calls, one after the other. */
async function* pieces(head: Json, events: AsyncGenerator<GenerateEvent>): AsyncGenerator<string> {
  const blocks = new Blocks()
  let isBegun = false
  const begin = function* (inputTokens: number) {
    if (isBegun) return
    isBegun = true
    const usage = { input_tokens: inputTokens, output_tokens: 0 }
    const message = { ...head, content: [], stop_reason: null, stop_sequence: null, usage }
    yield event({ type: 'message_start', message })
  }
  try {
    for await (const said of pacedForComments(events)) {
      if (said.type === 'prompt') {
        yield* begin(said.tokens)
        continue
      }
      if (said.type === 'prefill') {
        if (said.done < said.total) yield promptComment(said) + PING
        continue
      }
      if (said.type === 'done') {
        const { result } = said
        yield* begin(result.promptTokens)
        yield* blocks.close()
        whole(result)
        yield event({ type: 'message_delta', delta: endOf(result), usage: usageOf(result) })
        yield event({ type: 'message_stop' })
        continue
      }
      const data = blocks.dataOf(said)
      if (data === undefined) continue
      yield* begin(0)
      yield* data
    }
  } catch (error) {
    yield event(anthropicError(error).body)
  }
}

function event(data: Json & { type: string }): string {
  return sse(data, data.type)
}

/** The blocks of one streamed message. */
class Blocks {
  #index = -1
  #open: 'thinking' | 'text' | 'tool_use' | undefined

  /** What a part of the answer becomes; undefined for what is none. */
  dataOf(said: GenerateEvent): Generator<string> | undefined {
    switch (said.type) {
      case 'reasoning':
        return said.text === '' ? undefined : this.#thought(said.text)
      case 'text':
        return said.text === '' ? undefined : this.#text(said.text)
      case 'call':
        return this.#begin('tool_use', { id: said.id, name: said.name, input: {} })
      case 'arguments':
        return this.#delta({ type: 'input_json_delta', partial_json: said.text })
      default:
        return undefined
    }
  }

  *close(): Generator<string> {
    if (this.#open === undefined) return
    if (this.#open === 'thinking') yield* this.#delta({ type: 'signature_delta', signature: '' })
    this.#open = undefined
    yield event({ type: 'content_block_stop', index: this.#index })
  }

  *#thought(thinking: string): Generator<string> {
    if (this.#open !== 'thinking') yield* this.#begin('thinking', { thinking: '', signature: '' })
    yield* this.#delta({ type: 'thinking_delta', thinking })
  }

  *#text(text: string): Generator<string> {
    if (this.#open !== 'text') yield* this.#begin('text', { text: '' })
    yield* this.#delta({ type: 'text_delta', text })
  }

  *#begin(type: 'thinking' | 'text' | 'tool_use', fields: Json): Generator<string> {
    yield* this.close()
    this.#open = type
    this.#index++
    yield event({ type: 'content_block_start', index: this.#index, content_block: { type, ...fields } })
  }

  *#delta(delta: Json): Generator<string> {
    yield event({ type: 'content_block_delta', index: this.#index, delta })
  }
}
