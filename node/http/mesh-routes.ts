import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { EdgeNode, GenerateEvent } from '../api.ts'
import { localOnly } from './access.ts'
import { Admission } from './admission.ts'
import { MAX_EVENT_CLIENTS, MESH_INTERVAL_MS } from './constants.ts'
import { errorAnswer } from './errors.ts'
import { membershipRoutes } from './membership-routes.ts'
import { parseGenerate, parseScenarioNeeds, parseTokenize } from './mesh-schema.ts'
import { isOllamaBody, ollamaAnswer, ollamaRoutes } from './ollama/routes.ts'
import { type Components, jsonBody, startAnswer } from './request.ts'
import { textStream } from './text-stream.ts'

/** /api: what this project's own tools ask. */
export function meshRoutes(components: Components): Hono<{ Bindings: HttpBindings }> {
  const { node, closing } = components
  const followers = new Admission(MAX_EVENT_CLIENTS, 'followers of /api/events')
  return new Hono<{ Bindings: HttpBindings }>()
    .get('/mesh', context => context.json(node.mesh()))
    .get('/scenario', async context =>
      context.json(
        await node.scenario(parseScenarioNeeds(context.req.query()), { signal: context.req.raw.signal })
      )
    )
    .post('/tokenize', async context => {
      const { text, ...options } = parseTokenize(await jsonBody(context))
      const { signal } = context.req.raw
      return context.json({ tokens: await node.tokenize(text, { ...options, signal }) })
    })
    .get('/models', async context => context.json({ models: await node.models() }))
    .on(['GET', 'POST'], '/invite', localOnly, async context => context.json({ ticket: await node.invite() }))
    .route('/membership', membershipRoutes(node))
    .route('/', ollamaRoutes(components))
    .get('/events', context => {
      closing.admit()
      const leave = followers.enter()
      const abort = new AbortController()
      const over = closing.beginEndless(() => abort.abort())
      return textStream(meshEvents(node, abort.signal), {
        contentType: 'text/event-stream',
        onEnd: () => {
          abort.abort()
          over()
          leave()
        },
        drop: () => context.env.outgoing.destroy()
      })
    })
    .post('/generate', async context => {
      const body = await jsonBody(context)
      if (isOllamaBody(body)) return await ollamaAnswer(context, components, 'generate', body)
      const request = parseGenerate(body)
      const { events, headers, end } = await startAnswer(context, components, request)
      return textStream(lines(events), {
        contentType: 'application/x-ndjson',
        heartbeat: '\n',
        headers,
        onEnd: end,
        drop: () => context.env.outgoing.destroy()
      })
    })
}

/** The state of the mesh once, then whenever it differs from what was last sent. */
async function* meshEvents(node: EdgeNode, signal: AbortSignal): AsyncGenerator<string> {
  let sent = ''
  while (!signal.aborted) {
    const state = JSON.stringify(node.mesh())
    yield state === sent ? ': unchanged\n\n' : `event: mesh\ndata: ${state}\n\n`
    sent = state
    await new Promise<void>(resolve => {
      const timer = setTimeout(done, MESH_INTERVAL_MS)
      function done() {
        clearTimeout(timer)
        signal.removeEventListener('abort', done)
        resolve()
      }
      signal.addEventListener('abort', done)
    })
  }
}

/** Events one a line; what goes wrong on the way is the last. */
async function* lines(events: AsyncGenerator<GenerateEvent>): AsyncGenerator<string> {
  try {
    for await (const event of events) yield `${JSON.stringify(event)}\n`
  } catch (error) {
    const { status, body } = errorAnswer(error)
    yield `${JSON.stringify({ type: 'error', status, error: body.error })}\n`
  }
}
