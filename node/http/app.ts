import { randomUUID } from 'node:crypto'
import type { HttpBindings } from '@hono/node-server'
import { Hono, type MiddlewareHandler } from 'hono'
import { getPath } from 'hono/utils/url'
import { logger } from '../../models/log.ts'
import { REQUEST_ID } from '../../protocols/fields.ts'
import { errorCodeOf } from '../error-codes.ts'
import { faultOf } from '../source/request/request-log.ts'
import { type AccessRules, accessControl, crossOrigin } from './access.ts'
import { anthropicRoutes } from './anthropic/routes.ts'
import { REQUEST_ID_HEADER, REQUEST_ID_VARIABLE } from './constants.ts'
import { errorAs } from './error-forms.ts'
import { HttpError } from './errors.ts'
import { healthRoutes } from './health-routes.ts'
import { meshRoutes } from './mesh-routes.ts'
import { methodsOf } from './methods.ts'
import { openAiRoutes } from './openai/routes.ts'
import { openApiRoutes } from './openapi-routes.ts'
import { pageRoutes } from './page-routes.ts'
import type { Components } from './request.ts'

const log = logger('edgeshard:http')

/** Statuses of what passes by itself. */
const COME_AGAIN: readonly number[] = [429, 503]

/** All routes behind access control. */
export function createApp(components: Components, rules: AccessRules): Hono<{ Bindings: HttpBindings }> {
  const app = new Hono<{ Bindings: HttpBindings }>({ getPath: plainPath })
    .use(logged)
    .use(identified)
    .route('/', healthRoutes(components))
    .route('/', pageRoutes(rules))
    .route('/', openApiRoutes(rules))
    .use(crossOrigin)
    .use(accessControl(rules))
    .route('/v1/messages', anthropicRoutes(components))
    .route('/v1', openAiRoutes(components))
    // Some programs are told of the address without it.
    .route('/messages', anthropicRoutes(components))
    .route('/', openAiRoutes(components))
    .route('/api', meshRoutes(components))
    .get('/metrics', async context => {
      const { text, contentType } = await components.metrics.render()
      return context.body(text, 200, { 'content-type': contentType })
    })
  const methods = methodsOf(app.routes)
  return app
    .notFound(context => {
      const { req } = context
      const allowed = methods(req.path)
      if (allowed.length > 0) {
        context.header('allow', allowed.join(', '))
        throw new HttpError('method_not_allowed', `${req.path.slice(0, 100)} takes ${allowed.join(', ')}`)
      }
      const known =
        '/ (the page), /v1/chat/completions, /v1/responses, /v1/messages, /v1/models, /api/chat, /api/mesh, /api/events and /metrics'
      throw new HttpError('not_found', `no ${req.method} ${req.path.slice(0, 100)} here; there are ${known}`)
    })
    .onError((error, context) => {
      const { status, body } = errorAs(context.req.path, error)
      return context.json(body, status)
    })
}

/** A path without slashes too many, which some programs put at its beginning or end. */
function plainPath(request: Request): string {
  const path = getPath(request).replace(/\/{2,}/g, '/')
  return path.length > 1 ? path.replace(/\/$/, '') : path
}

/** Every answer says what it is called in the logs: as its client has called it, where that can stand there. */
const identified: MiddlewareHandler = async (context, next) => {
  const given = context.req.header(REQUEST_ID_HEADER)
  const id = given !== undefined && REQUEST_ID.test(given) ? given : randomUUID()
  context.set(REQUEST_ID_VARIABLE, id)
  await next()
  const { status, headers } = context.res
  if (COME_AGAIN.includes(status)) headers.set('retry-after', '1')
  headers.set(REQUEST_ID_HEADER, id)
  // Anthropic's clients read it by this name.
  headers.set('request-id', id)
}

/** One line a response, when its headers are ready; paths are cut, and queries are nobody's to read. */
const logged: MiddlewareHandler = async (context, next) => {
  const startMs = performance.now()
  await next()
  const { req, res, error } = context
  const requestLog = log.of(res.headers.get(REQUEST_ID_HEADER) ?? undefined)
  const asked = { method: req.method, path: req.path.slice(0, 100) }
  // A client that has left ends what was computed for it, which is no mistake.
  const hasLeft = req.raw.signal.aborted && error?.name === 'AbortError'
  if (error !== undefined && !hasLeft && errorCodeOf(error) === 'internal_error') {
    requestLog.error('a request failed inside', () => ({ ...asked, ...faultOf(error) }))
  }
  requestLog.debug('responded', () => ({ ...asked, status: res.status, ms: performance.now() - startMs }))
}
