import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import { type AccessRules, ownNameOnly } from './access.ts'
import { openApiDocument } from './openapi.ts'

/** /openapi.json: the same for everybody and nothing of the node, so it needs no key. */
export function openApiRoutes(rules: AccessRules): Hono<{ Bindings: HttpBindings }> {
  let text: string | undefined
  return new Hono<{ Bindings: HttpBindings }>().get('/openapi.json', ownNameOnly(rules), context => {
    text ??= JSON.stringify(openApiDocument())
    return context.body(text, 200, { 'content-type': 'application/json', 'cache-control': 'no-cache' })
  })
}
