import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { GenerateEvent, GenerateResult } from '../../api.ts'
import { VERSION } from '../../version.ts'
import { askedAs } from '../asked-as.ts'
import { errorAnswer } from '../errors.ts'
import { type Components, type HttpContext, jsonBody, startAnswer } from '../request.ts'
import { textStream } from '../text-stream.ts'
import { type OllamaKind, ollamaFigures, ollamaModel, ollamaPiece, parseOllama } from './schema.ts'

/** What programs that only know Ollama's API need; /api/generate is shared with this project's own. */
export function ollamaRoutes(components: Components): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .get('/version', context => context.json({ version: VERSION }))
    .get('/tags', async context => {
      const models = await components.node.models()
      return context.json({ models: models.map(model => ollamaModel(model, askedAs(model, models))) })
    })
    .post('/chat', async context => ollamaAnswer(context, components, 'chat', await jsonBody(context)))
}

/** True for a body of Ollama's /api/generate; this project's own has `input`. */
export function isOllamaBody(body: unknown): boolean {
  return typeof body === 'object' && body !== null && 'model' in body && !('input' in body)
}

/** Answers in Ollama's form, errors included. */
export async function ollamaAnswer(
  context: HttpContext,
  components: Components,
  kind: OllamaKind,
  body: unknown
): Promise<Response> {
  try {
    const { model, stream, request, keepAliveMs } = parseOllama(kind, body)
    if (request === null) {
      if (keepAliveMs !== undefined) await components.node.keepAlive(model, keepAliveMs)
      const done_reason = keepAliveMs === 0 ? 'unload' : 'load'
      return context.json({ ...ollamaPiece(kind, model, ''), done: true, done_reason })
    }
    const { events, headers, end } = await startAnswer(context, components, request)
    if (stream) {
      return textStream(pieces(events, kind, model), {
        contentType: 'application/x-ndjson',
        heartbeat: '\n',
        headers,
        onEnd: end,
        drop: () => context.env.outgoing.destroy()
      })
    }
    try {
      const result = await resultOf(events)
      return context.json(
        { ...ollamaPiece(kind, model, result.text), ...ollamaFigures(result) },
        200,
        headers
      )
    } finally {
      end()
    }
  } catch (error) {
    const { status, body } = errorAnswer(error)
    return context.json({ error: body.error.message }, status)
  }
}

async function resultOf(events: AsyncGenerator<GenerateEvent>): Promise<GenerateResult> {
  for await (const event of events) if (event.type === 'done') return event.result
  throw new Error('the node ended the answer without a result')
}

async function* pieces(
  events: AsyncGenerator<GenerateEvent>,
  kind: OllamaKind,
  model: string
): AsyncGenerator<string> {
  const line = (value: unknown) => `${JSON.stringify(value)}\n`
  try {
    for await (const event of events) {
      if (event.type === 'text') yield line(ollamaPiece(kind, model, event.text))
      else if (event.type === 'done')
        yield line({ ...ollamaPiece(kind, model, ''), ...ollamaFigures(event.result) })
    }
  } catch (error) {
    yield line({ error: errorAnswer(error).body.error.message })
  }
}
