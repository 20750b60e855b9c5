import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { EdgeNode } from '../api.ts'
import { localOnly } from './access.ts'

/** /api/pairing: opens and closes pairing and shows its code; for the device that runs the node alone. */
export function pairingRoutes({ pairing }: EdgeNode): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .use(localOnly)
    .get('/', context => context.json(pairing.state))
    .post('/', async context => context.json(await pairing.open()))
    .post('/close', async context => context.json(await pairing.close()))
}
