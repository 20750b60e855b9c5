import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import { type AccessRules, accessControl } from './access.ts'
import { errorAnswer, HttpError } from './errors.ts'
import { meshRoutes } from './mesh-routes.ts'
import { openAiRoutes } from './openai-routes.ts'
import type { Components } from './request.ts'

/** All routes behind access control. */
export function createApp(components: Components, rules: AccessRules): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .use(accessControl(rules))
    .route('/v1', openAiRoutes(components))
    .route('/api', meshRoutes(components))
    .get('/metrics', async context => {
      const { text, contentType } = await components.metrics.render()
      return context.body(text, 200, { 'content-type': contentType })
    })
    .notFound(({ req }) => {
      const known =
        '/v1/chat/completions, /v1/completions, /v1/models, /api/chat, /api/mesh, /api/events and /metrics'
      throw new HttpError('not_found', `no ${req.method} ${req.path.slice(0, 100)} here; there are ${known}`)
    })
    .onError((error, context) => {
      const { status, body } = errorAnswer(error)
      return context.json(body, status)
    })
}
