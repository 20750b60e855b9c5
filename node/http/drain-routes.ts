import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import * as z from 'zod'
import { RequestError } from '../errors.ts'
import { localOnly } from './access.ts'
import { type Components, jsonBody } from './request.ts'

export const drainBody = z.strictObject({ leave: z.boolean().optional() })
const nothing = z.strictObject({})

/** /api/drain: takes the node out of the mesh's work and back; for the device that runs the node alone. */
export function drainRoutes({
  node,
  onLeave
}: Pick<Components, 'node' | 'onLeave'>): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .use(localOnly)
    .get('/', context => context.json(node.draining))
    .post('/', async context => {
      const { success, data } = drainBody.safeParse(await jsonBody(context))
      if (!success) throw new RequestError('the body may have leave, true or false, and nothing else')
      const leave = data.leave === true
      if (leave && onLeave === undefined) {
        throw new RequestError('leave: the program that this node is part of ends by itself', 'leave')
      }
      const draining = node.drain({ signal: new AbortController().signal, handOver: true })
      void draining.then(drained => {
        if (drained && leave) onLeave?.()
      })
      return context.json(node.draining)
    })
    .post('/undo', async context => {
      if (!nothing.safeParse(await jsonBody(context)).success) throw new RequestError('the body has to be {}')
      node.undrain()
      return context.json(node.draining)
    })
}
