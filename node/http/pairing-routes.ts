import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { EdgeNode } from '../api.ts'
import { localOrGranted } from './access.ts'
import { HttpError } from './errors.ts'
import { joinCommandFor } from './join-command.ts'
import type { PageGrants } from './page-grants.ts'

/** /api/pairing: opens and closes pairing and shows its code; for the device that runs the node alone, and pages it has let. */
export function pairingRoutes({ pairing }: EdgeNode, grants: PageGrants): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .use(localOrGranted(grants))
    .get('/', context => context.json(pairing.state))
    .get('/command', context => {
      const { state } = pairing
      if (!state.open) throw new HttpError('not_found', 'pairing is closed: no device could join')
      return context.json(joinCommandFor(state.addresses))
    })
    .post('/', async context => context.json(await pairing.open()))
    .post('/close', async context => context.json(await pairing.close()))
}
