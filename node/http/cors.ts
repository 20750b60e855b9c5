import type { Context } from 'hono'

/** How long a browser need not ask again. */
const MAX_AGE_S = 600
const METHODS = 'GET, HEAD, POST, DELETE, OPTIONS'
/** Headers of answers that pages can read besides the few that they always can. */
const EXPOSED = [
  ...['x-request-id', 'request-id', 'retry-after', 'server-timing', 'x-edgeshard-plan'],
  ...['x-edgeshard-predicted', 'x-edgeshard-tools', 'x-edgeshard-unread', 'x-edgeshard-ignored'],
  'x-edgeshard-pooling'
].join(', ')

/** Lets a page of this origin read the answer; never with a browser's own credentials, of which there are none here. */
export function allowOrigin(headers: Headers, origin: string): void {
  headers.set('access-control-allow-origin', origin)
  headers.append('vary', 'Origin')
  headers.set('access-control-expose-headers', EXPOSED)
}

/** True for a browser's question whether a request may be sent. */
export function isPreflight({ req }: Context): boolean {
  return req.method === 'OPTIONS' && req.header('access-control-request-method') !== undefined
}

/** The answer to it; it is asked before any key is sent. */
export function preflightAnswer({ req }: Context, origin: string): Response {
  const headers = new Headers({
    'access-control-allow-methods': METHODS,
    'access-control-allow-headers': req.header('access-control-request-headers') ?? '*',
    'access-control-max-age': String(MAX_AGE_S)
  })
  allowOrigin(headers, origin)
  if (req.header('access-control-request-private-network') === 'true') {
    headers.set('access-control-allow-private-network', 'true')
  }
  return new Response(null, { status: 204, headers })
}
