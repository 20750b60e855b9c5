import { randomUUID } from 'node:crypto'
import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { GenerateEvent, GenerateResult, ModelSummary, TokenLogprob } from '../../api.ts'
import { UnknownModelError } from '../../errors.ts'
import { askedAs } from '../asked-as.ts'
import { errorAnswer } from '../errors.ts'
import { type Components, type HttpContext, jsonBody, type Running, startAnswer } from '../request.ts'
import { textStream } from '../text-stream.ts'
import {
  type AnswerHead,
  type AnswerKind,
  firstChunk,
  lastChunk,
  textChunk,
  usageChunk,
  wholeAnswer
} from './answers.ts'
import { type OpenAiRequest, parseChat, parseCompletion } from './schema.ts'

/** /v1: OpenAI's API as far as a mesh can answer it. */
export function openAiRoutes(components: Components): Hono<{ Bindings: HttpBindings }> {
  const { node } = components
  return new Hono<{ Bindings: HttpBindings }>()
    .get('/models', async context => {
      const models = await node.models()
      return context.json({ object: 'list', data: models.map(model => modelEntry(model, models)) })
    })
    .get('/models/:name{.+}', async context => {
      const name = context.req.param('name')
      const models = await node.models()
      const found = models.find(model => askedAs(model, models) === name || model.id === name)
      if (found === undefined) {
        // Which says, too, where several have that name.
        await node.manifest(name)
        throw new UnknownModelError(`no device of this mesh holds a model called "${name}"`)
      }
      return context.json(modelEntry(found, models))
    })
    .post('/chat/completions', context => answer(context, components, 'chat', parseChat))
    .post('/completions', context => answer(context, components, 'completion', parseCompletion))
}

function modelEntry(model: ModelSummary, models: readonly ModelSummary[]) {
  const { name, id, architecture, precision, contextLength, weightBytes, holders } = model
  const edgeshard = { name, id, architecture, precision, contextLength, weightBytes, holders }
  return { id: askedAs(model, models), object: 'model', created: 0, owned_by: 'edgeshard', edgeshard }
}

async function answer(
  context: HttpContext,
  components: Components,
  kind: AnswerKind,
  parse: (body: unknown) => OpenAiRequest
): Promise<Response> {
  const asked = parse(await jsonBody(context))
  const head: AnswerHead = {
    kind,
    id: `${kind === 'chat' ? 'chatcmpl' : 'cmpl'}-${randomUUID()}`,
    model: asked.request.model ?? (await components.node.manifest(undefined)).name,
    created: Math.floor(Date.now() / 1000)
  }
  const running = await startAnswer(context, components, asked.request)
  if (!asked.stream) return await whole(context, running, head, asked)
  return textStream(chunks(running.events, head, asked), {
    contentType: 'text/event-stream',
    heartbeat: ': waiting\n\n',
    headers: running.headers,
    onEnd: running.end,
    drop: () => context.env.outgoing.destroy()
  })
}

async function whole(
  context: HttpContext,
  { events, headers, end }: Running,
  head: AnswerHead,
  asked: OpenAiRequest
): Promise<Response> {
  try {
    const logprobs: TokenLogprob[] = []
    let result: GenerateResult | null = null
    for await (const event of events) {
      if (event.type === 'text' && asked.logprobs) logprobs.push(...event.logprobs)
      if (event.type === 'done') result = event.result
    }
    if (result === null) throw new Error('the node ended the answer without a result')
    const { ttftMs, tpotMs } = result
    const timing = { 'server-timing': `ttft;dur=${ttftMs.toFixed(1)}, tpot;dur=${tpotMs.toFixed(2)}` }
    return context.json(wholeAnswer(head, result, asked.logprobs ? logprobs : null), 200, {
      ...headers,
      ...timing
    })
  } finally {
    end()
  }
}

/** The answer as server-sent events. What goes wrong on the way is said in the stream: the status is already sent. */
async function* chunks(
  events: AsyncGenerator<GenerateEvent>,
  head: AnswerHead,
  asked: OpenAiRequest
): AsyncGenerator<string> {
  const first = firstChunk(head)
  try {
    if (first !== null) yield sse(first)
    for await (const event of events) {
      if (event.type === 'progress') yield `: ${event.phase} ${event.done}/${event.total}\n\n`
      else if (event.type === 'text')
        yield sse(textChunk(head, event.text, asked.logprobs ? event.logprobs : null))
      else if (event.type === 'done') {
        yield sse(lastChunk(head, event.result))
        if (asked.includeUsage) yield sse(usageChunk(head, event.result))
      }
    }
    yield 'data: [DONE]\n\n'
  } catch (error) {
    yield sse(errorAnswer(error).body)
  }
}

function sse(data: unknown): string {
  return `data: ${JSON.stringify(data)}\n\n`
}
