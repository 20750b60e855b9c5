import type { GenerateEvent, GenerateResult, ToolCall } from '../../api.ts'
import { type AnswerForm, resultOf } from '../answer.ts'
import { ollamaError } from './errors.ts'
import type { OllamaKind } from './schema.ts'

type Json = Record<string, unknown>

/** Ollama's answers: one object, or one a line. */
export function ollamaForm(kind: OllamaKind, model: string): AnswerForm {
  return {
    contentType: 'application/x-ndjson',
    // Its clients read every line as an object: one that says nothing does no harm, an empty line ends them.
    heartbeat: line(ollamaPiece(kind, model, { text: '' })),
    pieces: events => pieces(kind, model, events),
    whole: async events => {
      const result = await resultOf(events)
      return { result, body: { ...ollamaPiece(kind, model, result), ...ollamaFigures(result) } }
    }
  }
}

/** One piece of an answer; the last one says how it went. */
export function ollamaPiece(
  kind: OllamaKind,
  model: string,
  { text, reasoning, toolCalls }: { text: string; reasoning?: string; toolCalls?: readonly ToolCall[] }
): Json {
  const head = { model, created_at: new Date().toISOString() }
  const thinking = reasoning === undefined ? {} : { thinking: reasoning }
  if (kind === 'generate') return { ...head, response: text, ...thinking, done: false }
  const calls = toolCalls?.map(({ id, name, arguments: given }) => ({
    id,
    function: { name, arguments: JSON.parse(given) }
  }))
  const message = { role: 'assistant', content: text, ...thinking, ...(calls && { tool_calls: calls }) }
  return { ...head, message, done: false }
}

async function* pieces(
  kind: OllamaKind,
  model: string,
  events: AsyncGenerator<GenerateEvent>
): AsyncGenerator<string> {
  const calls = new Map<number, ToolCall>()
  try {
    for await (const event of events) {
      switch (event.type) {
        case 'text':
          yield line(ollamaPiece(kind, model, { text: event.text }))
          break
        case 'reasoning':
          yield line(ollamaPiece(kind, model, { text: '', reasoning: event.text }))
          break
        // Its API has no word for that, and its clients pass over what they do not know.
        case 'prefill': {
          const { done, total } = event
          const edgeshard = { prompt: { done, total } }
          if (done < total) yield line({ ...ollamaPiece(kind, model, { text: '' }), edgeshard })
          break
        }
        case 'call':
          calls.set(event.index, { id: event.id, name: event.name, arguments: '' })
          break
        case 'arguments':
          calls.get(event.index)!.arguments += event.text
          break
        // Arguments are an object here, so a call is told of when it is whole.
        case 'called':
          yield line(ollamaPiece(kind, model, { text: '', toolCalls: [calls.get(event.index)!] }))
          break
        case 'done':
          yield line({ ...ollamaPiece(kind, model, { text: '' }), ...ollamaFigures(event.result) })
          break
        default:
      }
    }
  } catch (error) {
    yield line(ollamaError(error).body)
  }
}

function line(value: unknown): string {
  return `${JSON.stringify(value)}\n`
}

/** Ollama's figures: durations in nanoseconds. */
function ollamaFigures(result: GenerateResult): Json {
  const { promptTokens, tokens: generated, ttftMs, tpotMs, finishReason, plan } = result
  const evalMs = tpotMs * Math.max(0, generated.length - 1)
  const ns = (ms: number) => Math.round(ms * 1e6)
  return {
    done: true,
    done_reason: finishReason,
    total_duration: ns(ttftMs + evalMs),
    load_duration: 0,
    prompt_eval_count: promptTokens,
    prompt_eval_duration: ns(ttftMs),
    eval_count: generated.length,
    eval_duration: ns(evalMs),
    edgeshard: { plan }
  }
}
