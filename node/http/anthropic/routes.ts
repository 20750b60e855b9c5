import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import { answerAs } from '../answer.ts'
import { type Components, jsonBody } from '../request.ts'
import { messagesForm } from './answers.ts'
import { parseCount, parseMessages } from './schema.ts'

/** /messages: Anthropic's API as far as a mesh can answer it. */
export function anthropicRoutes(components: Components): Hono<{ Bindings: HttpBindings }> {
  const { node } = components
  return new Hono<{ Bindings: HttpBindings }>()
    .post('/', async context => {
      const asked = parseMessages(await jsonBody(context))
      return await answerAs(messagesForm(asked.request.model ?? ''), asked, context, components)
    })
    .post('/count_tokens', async context => {
      const request = parseCount(await jsonBody(context))
      const { signal } = context.req.raw
      return context.json({ input_tokens: await node.countTokens(request, { signal }) })
    })
}
