import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import { type AccessRules, ownNameOnly } from './access.ts'
import { type PageFiles, readPage } from './page-files.ts'
import type { HttpContext } from './request.ts'

const HEADERS = {
  'cache-control': 'no-cache',
  'x-content-type-options': 'nosniff',
  'referrer-policy': 'no-referrer',
  'cross-origin-opener-policy': 'same-origin',
  'cross-origin-resource-policy': 'same-origin'
}

/**
 * The page at `/`. Its files are the same for everybody and hold nothing of the node, so they need no key: the page asks
 * for it, and sends it with what it asks of the API.
 */
export function pageRoutes(rules: AccessRules): Hono<{ Bindings: HttpBindings }> {
  let reading: Promise<PageFiles> | undefined
  const answer = async (context: HttpContext, next: () => Promise<void>) => {
    reading ??= readPage().catch(error => {
      // Whoever asks next may find what is missing now.
      reading = undefined
      throw error
    })
    const { files, policy } = await reading
    const file = files.get(context.req.path)
    if (file === undefined) return await next()
    const { body, contentType, etag } = file
    const headers = { ...HEADERS, etag, 'content-security-policy': policy }
    if (context.req.header('if-none-match') === etag) return context.body(null, 304, headers)
    return context.body(body, 200, { ...headers, 'content-type': contentType })
  }
  const own = ownNameOnly(rules)
  return new Hono<{ Bindings: HttpBindings }>().get('/', own, answer).get('/page/*', own, answer)
}
