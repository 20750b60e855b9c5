import type { GenerateEvent, GenerateRequest, GenerateResult } from '../api.ts'
import { COMMENT_MS } from './constants.ts'
import { type Components, type HttpContext, headerList, startAnswer } from './request.ts'
import { textStream } from './text-stream.ts'

/** What one API has asked, in the node's words. */
export interface Asked {
  request: GenerateRequest
  /** The answer is to come in pieces. */
  stream: boolean
  /** Fields that nobody knows, which were passed over. */
  ignored: readonly string[]
}

/** How one API says an answer. */
export interface AnswerForm {
  contentType: 'text/event-stream' | 'application/x-ndjson'
  /** What keeps a silent stream alive; undefined: the API has nothing that its clients would pass over. */
  heartbeat: string | undefined
  /** The answer in pieces. What goes wrong on the way is said in the last one: the status is sent already. */
  pieces(events: AsyncGenerator<GenerateEvent>): AsyncGenerator<string>
  /** The answer as one body. */
  whole(events: AsyncGenerator<GenerateEvent>): Promise<{ body: object; result: GenerateResult }>
}

/**
 * Answers a request in the form of an API, whole or in pieces.
 *
 * @throws what the node refuses the request with, before any of the answer is sent
 */
export async function answerAs(
  form: AnswerForm,
  { request, stream, ignored }: Asked,
  context: HttpContext,
  components: Components
): Promise<Response> {
  const { events, end, ...running } = await startAnswer(context, components, request)
  const headers = { ...running.headers, ...ignoredHeader(ignored) }
  if (stream) {
    return textStream(form.pieces(events), {
      contentType: form.contentType,
      ...(form.heartbeat !== undefined && { heartbeat: form.heartbeat }),
      headers,
      onEnd: end,
      drop: () => context.env.outgoing.destroy()
    })
  }
  try {
    const { body, result } = await form.whole(events)
    const { ttftMs, tpotMs } = result
    const timing = { 'server-timing': `ttft;dur=${ttftMs.toFixed(1)}, tpot;dur=${tpotMs.toFixed(2)}` }
    return context.json(body, 200, { ...headers, ...timing })
  } finally {
    end()
  }
}

/** `X-EdgeShard-Ignored: NAME, NAME`. */
export function ignoredHeader(ignored: readonly string[]): Record<string, string> {
  return ignored.length === 0 ? {} : { 'x-edgeshard-ignored': headerList(ignored) }
}

/** What an answer came to. */
export async function resultOf(events: AsyncGenerator<GenerateEvent>): Promise<GenerateResult> {
  for await (const event of events) if (event.type === 'done') return event.result
  throw new Error('the node ended the answer without a result')
}

/** How far a prompt is, as a comment in a stream of server-sent events: clients pass over it, and proxies see that it lives. */
export function promptComment({ done, total }: Extract<GenerateEvent, { type: 'prefill' }>): string {
  return `: prompt ${done}/${total}\n\n`
}

/**
 * An answer's events for a stream of server-sent events: how far its prompt is, or the loading of weights, comes no more often than
 * a heartbeat. Some clients count lines without data and give up, go-openai at 300 between two events.
 */
export async function* pacedForComments(
  events: AsyncGenerator<GenerateEvent>
): AsyncGenerator<GenerateEvent> {
  const nextMs = { prefill: Number.NEGATIVE_INFINITY, progress: Number.NEGATIVE_INFINITY }
  for await (const event of events) {
    if (event.type === 'prefill' || event.type === 'progress') {
      const nowMs = performance.now()
      if (nowMs < nextMs[event.type]) continue
      nextMs[event.type] = nowMs + COMMENT_MS
    }
    yield event
  }
}

/** A server-sent event; APIs that name theirs say `name`. */
export function sse(data: unknown, name?: string): string {
  return `${name === undefined ? '' : `event: ${name}\n`}data: ${JSON.stringify(data)}\n\n`
}
