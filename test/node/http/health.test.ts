import { afterEach, expect, test } from 'vitest'
import type { Readiness } from '../../../node/api.ts'
import { type HttpServer, type HttpServerInit, startHttpServer } from '../../../node/http/index.ts'
import { fakeNode } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(state: Readiness, init: Partial<HttpServerInit> = {}): Promise<HttpServer> {
  const node = { ...fakeNode(), readiness: async () => state }
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0, ...init })
  servers.push(server)
  return server
}

const asked = async ({ url }: HttpServer, path: string) => {
  const response = await fetch(url + path)
  return { status: response.status, body: await response.json() }
}

const READY = { ready: true, reasons: [] }
const NOT_READY = { ready: false, reasons: ['the default model fits nowhere'] }

test('a process that serves is well, ready or not, and says so without a key', async () => {
  const server = await serve(NOT_READY, { apiKey: 'k' })
  for (const path of ['/healthz', '/health']) {
    expect(await asked(server, path)).toEqual({ status: 200, body: { status: 'ok' } })
  }
})

test('/readyz is 200 where a prompt can be answered, and 503 with the reasons where none can', async () => {
  expect(await asked(await serve(READY, { apiKey: 'k' }), '/readyz')).toEqual({ status: 200, body: READY })
  expect(await asked(await serve(NOT_READY, { apiKey: 'k' }), '/readyz')).toEqual({
    status: 503,
    body: NOT_READY
  })
})

test('what takes no new prompts is well, and not ready', async () => {
  const server = await serve(READY)
  await server.drain(0)
  expect(await asked(server, '/healthz')).toEqual({ status: 200, body: { status: 'ok' } })
  expect(await asked(server, '/readyz')).toEqual({
    status: 503,
    body: { ready: false, reasons: [expect.stringContaining('takes no new prompts')] }
  })
})
