import type { HttpBindings } from '@hono/node-server'
import { Hono, type MiddlewareHandler } from 'hono'
import { logger } from '../../models/log.ts'
import { errorCodeOf } from '../error-codes.ts'
import { faultOf } from '../source/request/request-log.ts'
import { type AccessRules, accessControl } from './access.ts'
import { REQUEST_ID_HEADER } from './constants.ts'
import { errorAnswer, HttpError } from './errors.ts'
import { meshRoutes } from './mesh-routes.ts'
import { openAiRoutes } from './openai-routes.ts'
import { pageRoutes } from './page-routes.ts'
import type { Components } from './request.ts'

const log = logger('edgeshard:http')

/** Statuses of what passes by itself. */
const COME_AGAIN: readonly number[] = [429, 503]

/** All routes behind access control. */
export function createApp(components: Components, rules: AccessRules): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .use(logged)
    .route('/', pageRoutes(rules))
    .use(accessControl(rules))
    .route('/v1', openAiRoutes(components))
    .route('/api', meshRoutes(components))
    .get('/metrics', async context => {
      const { text, contentType } = await components.metrics.render()
      return context.body(text, 200, { 'content-type': contentType })
    })
    .notFound(({ req }) => {
      const known =
        '/ (the page), /v1/chat/completions, /v1/completions, /v1/models, /api/chat, /api/mesh, /api/events and /metrics'
      throw new HttpError('not_found', `no ${req.method} ${req.path.slice(0, 100)} here; there are ${known}`)
    })
    .onError((error, context) => {
      const { status, body } = errorAnswer(error)
      if (COME_AGAIN.includes(status)) context.header('retry-after', '1')
      return context.json(body, status)
    })
}

/** One line a response, when its headers are ready; paths are cut, and queries are nobody's to read. */
const logged: MiddlewareHandler = async (context, next) => {
  const startMs = performance.now()
  await next()
  const { req, res, error } = context
  const requestLog = log.of(res.headers.get(REQUEST_ID_HEADER) ?? undefined)
  const asked = { method: req.method, path: req.path.slice(0, 100) }
  if (error !== undefined && errorCodeOf(error) === 'internal_error') {
    requestLog.error('a request failed inside', () => ({ ...asked, ...faultOf(error) }))
  }
  requestLog.debug('responded', () => ({ ...asked, status: res.status, ms: performance.now() - startMs }))
}
