import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { GenerateEvent } from '../api.ts'
import { localOnly } from './access.ts'
import { drainRoutes } from './drain-routes.ts'
import { errorAnswer } from './errors.ts'
import { followMesh } from './event-stream.ts'
import { gathered } from './gathered.ts'
import { grantRoutes } from './grant-routes.ts'
import { loadFor } from './load.ts'
import { membershipRoutes } from './membership-routes.ts'
import { parseGathering, parseGenerate, parseLoad, parseScenarioNeeds, parseTokenize } from './mesh-schema.ts'
import { isOllamaBody, ollamaAnswer, ollamaRoutes } from './ollama/routes.ts'
import { PageGrants } from './page-grants.ts'
import { pairingRoutes } from './pairing-routes.ts'
import { planRoutes } from './plan-routes.ts'
import { type Components, jsonBody, startAnswer } from './request.ts'
import { textStream } from './text-stream.ts'

/** /api: what this project's own tools ask. */
export function meshRoutes(components: Components): Hono<{ Bindings: HttpBindings }> {
  const { node } = components
  const grants = new PageGrants()
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
    .post('/load', async context => {
      await loadFor(context, components, parseLoad(await jsonBody(context)))
      return context.json({ loaded: true })
    })
    .get('/models', async context => context.json({ models: await node.models() }))
    .on(['GET', 'POST'], '/invite', localOnly, async context => context.json({ ticket: await node.invite() }))
    .route('/membership', membershipRoutes(node))
    .route('/drain', drainRoutes(components))
    .route('/pairing', pairingRoutes(node, grants))
    .route('/page', grantRoutes(grants))
    .route('/', ollamaRoutes(components))
    .get('/events', followMesh(components))
    .route('/plan', planRoutes(components))
    .post('/generate', async context => {
      const body = await jsonBody(context)
      if (isOllamaBody(body)) return await ollamaAnswer(context, components, 'generate', body)
      const request = parseGenerate(body)
      const { gatherMs } = parseGathering(context.req.query())
      const { events, headers, end } = await startAnswer(context, components, request)
      return textStream(gatherMs > 0 ? gathered(lines(events), gatherMs) : lines(events), {
        contentType: 'application/x-ndjson',
        heartbeat: `${JSON.stringify({ type: 'waiting' })}\n`,
        headers,
        onEnd: end,
        drop: () => context.env.outgoing.destroy()
      })
    })
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
