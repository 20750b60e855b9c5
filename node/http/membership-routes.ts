import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import * as z from 'zod'
import { MAX_DEVICES } from '../../protocols/membership/constants.ts'
import { peerIdSchema } from '../../protocols/peer-id.ts'
import type { EdgeNode } from '../api.ts'
import { RequestError } from '../errors.ts'
import { localOnly } from './access.ts'
import { type HttpContext, jsonBody } from './request.ts'

export const banBody = z.strictObject({
  peerId: peerIdSchema,
  keep: z.array(peerIdSchema).max(MAX_DEVICES).optional()
})
export const peerBody = z.strictObject({ peerId: peerIdSchema })
export const nothing = z.strictObject({})

/** /api/membership: lets devices into the mesh and keeps them out; for the device that runs the node alone. */
export function membershipRoutes({ membership }: EdgeNode): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .use(localOnly)
    .get('/', context => context.json(membership.state))
    .get('/bans', context => context.json({ banned: membership.banned }))
    .post('/rotate', async context => {
      await parsed(context, nothing)
      return context.json(await membership.rotate())
    })
    .post('/ban', async context => {
      const { peerId, keep = [] } = await parsed(context, banBody)
      return context.json(await membership.ban(peerId, { keep }))
    })
    .post('/unban', async context => {
      await membership.unban((await parsed(context, peerBody)).peerId)
      return context.json({ banned: membership.banned })
    })
    .post('/promote', async context => {
      await membership.promote((await parsed(context, peerBody)).peerId)
      return context.json(membership.state)
    })
}

async function parsed<S extends z.ZodType>(context: HttpContext, schema: S): Promise<z.output<S>> {
  const result = schema.safeParse(await jsonBody(context))
  if (result.success) return result.data
  throw new RequestError(`the body is malformed: ${result.error.issues[0]?.message ?? ''}`)
}
