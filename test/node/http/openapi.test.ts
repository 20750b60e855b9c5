import { afterAll, beforeAll, expect, test } from 'vitest'
import { ApiKeys } from '../../../node/http/api-keys.ts'
import { createApp } from '../../../node/http/app.ts'
import { Closing } from '../../../node/http/closing.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { HttpMetrics } from '../../../node/http/metrics.ts'
import { openApiDocument } from '../../../node/http/openapi.ts'
import { fakeNode } from './fake-node.ts'

interface Described {
  openapi: string
  paths: Record<string, Record<string, DescribedOperation>>
}

interface DescribedOperation {
  security: object[]
  parameters: { name: string; in: string; schema: Record<string, unknown> }[]
  requestBody?: { content: Record<string, { schema: { properties?: Record<string, object> } }> }
}

const node = fakeNode()
let server: HttpServer
let document: Described
beforeAll(async () => {
  server = await startHttpServer({ node, host: '127.0.0.1', port: 0, apiKey: 'secret' })
  // No key is needed for what is the same for everybody.
  const response = await fetch(new URL('/openapi.json', server.url))
  expect(response.headers.get('content-type')).toBe('application/json')
  document = (await response.json()) as Described
})
afterAll(() => server.stop())

/** Every route of the app, in the words of the document. */
function routes(): { method: string; path: string }[] {
  const closing = new Closing()
  const keys = new ApiKeys([])
  const components = { node, closing, keys, metrics: new HttpMetrics(node) }
  const app = createApp(components, {
    host: '127.0.0.1',
    keys,
    token: undefined,
    allowOrigins: [],
    allowHosts: []
  })
  return app.routes
    .filter(({ method }) => method !== 'ALL')
    .map(({ method, path }) => ({
      method: method.toLowerCase(),
      path: path.replace(/:(\w+)(\{[^}]+\})?/g, '{$1}')
    }))
}

const isPage = (path: string) => path === '/' || path.startsWith('/page/')

test('every route is in the document, but the page, and what is refused by name', async () => {
  const missing = routes().filter(({ method, path }) => {
    const described = document.paths[path] ?? document.paths[`/v1${path}`]
    return !isPage(path) && described?.[method] === undefined
  })
  expect(missing.length).toBeGreaterThan(5)
  for (const { method, path } of missing) {
    const asked = { method: method.toUpperCase(), headers: { authorization: 'Bearer secret' }, body: '{}' }
    const text = await (await fetch(new URL(path, server.url), asked)).text()
    expect(text, `${method} ${path}`).toContain('is not supported')
  }
})

test('everything in the document is a route', () => {
  const there = new Set(routes().map(({ method, path }) => `${method} ${path}`))
  const described = Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.keys(methods).map(method => `${method} ${path}`)
  )
  expect(described.length).toBeGreaterThan(25)
  expect(described.filter(one => !there.has(one))).toEqual([])
})

test('bodies and queries are what the routes read them with', () => {
  expect(document.openapi).toBe('3.1.0')
  const bodyOf = (path: string) =>
    document.paths[path]!.post!.requestBody!.content['application/json']!.schema
  expect(bodyOf('/v1/chat/completions').properties).toMatchObject({
    objective: { enum: ['latency', 'throughput'] },
    messages: { type: 'array', minItems: 1 }
  })
  expect(bodyOf('/api/plan').properties).toHaveProperty('method')
  expect(document.paths['/api/plan']!.get!.parameters.map(({ name }) => name)).toEqual([
    ...['model', 'promptTokens', 'newTokens', 'objective', 'privacy', 'speculate', 'draft']
  ])
  expect(document.paths['/api/scenario']!.get!.parameters[1]).toMatchObject({
    in: 'query',
    schema: { type: 'integer', minimum: 1 }
  })
})

test('what asks for no key, and what asks for the token of the home, says so', async () => {
  for (const [path, methods] of Object.entries(document.paths)) {
    const { get } = methods
    if (get === undefined || path.includes('{') || path === '/api/events') continue
    const { status } = await fetch(new URL(path, server.url))
    expect([path, status === 401], path).toEqual([path, get.security.length > 0])
    if (get.security.length !== 1) continue
    const keyed = await fetch(new URL(path, server.url), { headers: { authorization: 'Bearer secret' } })
    expect([path, keyed.status]).toEqual([path, 401])
    expect(await keyed.text()).toContain('token_required')
  }
})

test('the document is made anew each time and is plain JSON', () => {
  expect(JSON.parse(JSON.stringify(openApiDocument()))).toEqual(document)
})
