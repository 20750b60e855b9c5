import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import * as z from 'zod'
import { peerIdSchema } from '../../protocols/peer-id.ts'
import type { EdgeNode } from '../api.ts'
import { RequestError } from '../errors.ts'
import { localOnly } from './access.ts'
import { type HttpContext, jsonBody } from './request.ts'

const rotateBody = z.strictObject({ ban: peerIdSchema.optional() })
const unbanBody = z.strictObject({ peerId: peerIdSchema })

/** /api/membership: lets devices into the mesh and keeps them out; for the device that runs the node alone. */
export function membershipRoutes({ membership }: EdgeNode): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .use(localOnly)
    .get('/bans', context => context.json({ banned: membership.banned }))
    .post('/rotate', async context =>
      context.json(await membership.rotate(await parsed(context, rotateBody)))
    )
    .post('/unban', async context => {
      await membership.unban((await parsed(context, unbanBody)).peerId)
      return context.json({ banned: membership.banned })
    })
}

async function parsed<S extends z.ZodType>(context: HttpContext, schema: S): Promise<z.output<S>> {
  const result = schema.safeParse(await jsonBody(context))
  if (result.success) return result.data
  throw new RequestError(`the body is malformed: ${result.error.issues[0]?.message ?? ''}`)
}
