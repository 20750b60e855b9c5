import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import type { Components } from './request.ts'

/** What managers of services and balancers of load ask, which have no key: it names no device, no model and no person. */
export function healthRoutes({
  node,
  closing
}: Pick<Components, 'node' | 'closing'>): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .get('/health', context => context.json({ status: 'ok' }))
    .get('/healthz', context => context.json({ status: 'ok' }))
    .get('/readyz', async context => {
      const state = closing.admits
        ? await node.readiness()
        : { ready: false, reasons: ['the node takes no new prompts: it is being drained or switched off'] }
      return context.json(state, state.ready ? 200 : 503)
    })
}
