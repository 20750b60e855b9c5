import { randomUUID } from 'node:crypto'
import type { GenerateEvent, GenerateResult } from '../../api.ts'
import { type AnswerForm, pacedForComments, promptComment, sse } from '../answer.ts'
import { errorAnswer } from '../errors.ts'
import { detailsOf } from './answers.ts'
import { type OutputEvent, OutputItems } from './output-items.ts'
import type { ResponsesRequest } from './responses-schema.ts'

type Json = Record<string, unknown>

/** OpenAI's responses, whole and as named, numbered events. */
export function responsesForm(model: string, { repeated }: ResponsesRequest): AnswerForm {
  const head = {
    id: newId('resp'),
    object: 'response',
    created_at: Math.floor(Date.now() / 1000),
    model,
    ...repeated,
    previous_response_id: null,
    store: false,
    truncation: 'disabled',
    metadata: {}
  }
  return {
    contentType: 'text/event-stream',
    heartbeat: ': waiting\n\n',
    pieces: events => pieces(head, events),
    whole: async events => {
      const items = new OutputItems(newId)
      for await (const event of events) {
        for (const _ of items.on(event));
        if (event.type !== 'done') continue
        for (const _ of items.close());
        return { result: event.result, body: ended(head, items, event.result) }
      }
      throw new Error('the node ended the answer without a result')
    }
  }
}

async function* pieces(head: Json, events: AsyncGenerator<GenerateEvent>): AsyncGenerator<string> {
  let sequence = 0
  const said = (event: OutputEvent) => sse({ ...event, sequence_number: sequence++ }, event.type)
  const items = new OutputItems(newId)
  const begun = {
    ...head,
    status: 'in_progress',
    error: null,
    incomplete_details: null,
    output: [],
    usage: null
  }
  try {
    yield said({ type: 'response.created', response: begun })
    yield said({ type: 'response.in_progress', response: begun })
    for await (const event of pacedForComments(events)) {
      if (event.type === 'progress') yield `: ${event.phase} ${event.done}/${event.total}\n\n`
      if (event.type === 'prefill' && event.done < event.total) yield promptComment(event)
      for (const one of items.on(event)) yield said(one)
      if (event.type !== 'done') continue
      for (const one of items.close()) yield said(one)
      const response = ended(head, items, event.result)
      yield said({ type: `response.${response.status as string}`, response })
    }
  } catch (error) {
    const { message, code } = errorAnswer(error).body.error
    const response = { ...begun, status: 'failed', output: items.whole, error: { code, message } }
    yield said({ type: 'response.failed', response })
  }
}

function ended(head: Json, items: OutputItems, result: GenerateResult): Json {
  const { promptTokens, cachedTokens, tokens, finishReason, error } = result
  const isWhole = finishReason === 'stop'
  const status = isWhole ? 'completed' : finishReason === 'length' ? 'incomplete' : 'failed'
  return {
    ...head,
    status,
    error: error === undefined ? null : { code: 'server_error', message: error },
    incomplete_details: status === 'incomplete' ? { reason: 'max_output_tokens' } : null,
    output: items.whole,
    usage: {
      input_tokens: promptTokens,
      input_tokens_details: { cached_tokens: cachedTokens },
      output_tokens: tokens.length,
      output_tokens_details: { reasoning_tokens: 0 },
      total_tokens: promptTokens + tokens.length
    },
    edgeshard: detailsOf(result)
  }
}

function newId(prefix: string): string {
  return `${prefix}_${randomUUID().replaceAll('-', '')}`
}
