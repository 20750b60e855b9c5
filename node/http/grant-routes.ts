import type { HttpBindings } from '@hono/node-server'
import { Hono } from 'hono'
import * as z from 'zod'
import { RequestError } from '../errors.ts'
import { localOnly, ownDeviceOnly } from './access.ts'
import { HttpError } from './errors.ts'
import type { PageGrants } from './page-grants.ts'
import { jsonBody } from './request.ts'

const MAX_CODE_CHARS = 64

export const codeBody = z.strictObject({ code: z.string().max(MAX_CODE_CHARS) })

/** /api/page: a code for who may read the home, and what the node's own page gets for it. */
export function grantRoutes(grants: PageGrants): Hono<{ Bindings: HttpBindings }> {
  return new Hono<{ Bindings: HttpBindings }>()
    .post('/code', localOnly, context => context.json(grants.newCode()))
    .post('/grant', ownDeviceOnly, async context => {
      const { success, data } = codeBody.safeParse(await jsonBody(context))
      if (!success) throw new RequestError('the body has to be {"code"}, and nothing else')
      const granted = grants.take(data.code)
      if (granted === undefined) {
        throw new HttpError(
          'page_code_unusable',
          "that is no code of this node, or it was used, or it is older than five minutes: 'edgeshard page' prints a new one"
        )
      }
      return context.json(granted)
    })
}
