import { afterEach, expect, test } from 'vitest'
import { createClient } from '../../../node/client/index.ts'
import { type HttpServer, type HttpServerInit, startHttpServer } from '../../../node/http/index.ts'
import { type FakeNode, fakeNode, loadingNode } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(node: FakeNode, init: Partial<HttpServerInit> = {}): Promise<HttpServer> {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0, ...init })
  servers.push(server)
  return server
}

const post = (url: string, body: object, headers: Record<string, string> = {}) =>
  fetch(`${url}/api/load`, { method: 'POST', body: JSON.stringify(body), headers })

test('a load is asked for with the options of the request that is to come, and nothing else', async () => {
  const node = fakeNode()
  const { url } = await serve(node)
  expect(await (await post(url, {})).json()).toEqual({ loaded: true })
  const asked = { maxTokens: 9, objective: 'throughput', privacy: 'sealed', exact: true } as const
  await post(url, { model: 'tiny', keep_alive: '5m', speculate: 'ngram', draft: 'small', ...asked })
  const client = createClient({ url })
  await client.load()
  await client.load('tiny', { keepAliveMs: 90_000, ...asked })
  expect(node.loaded).toEqual([
    { model: undefined },
    { model: 'tiny', keepAliveMs: 300_000, speculate: 'ngram', draft: 'small', ...asked },
    { model: undefined },
    { model: 'tiny', keepAliveMs: 90_000, ...asked }
  ])
  for (const [body, param] of [
    [{ model: '' }, 'model'],
    [{ keep_alive: 'soon' }, 'keep_alive'],
    [{ keep_alive: 0 }, 'keep_alive'],
    [{ prompt: 'hi' }, undefined],
    [{ keepAliveMs: 1 }, undefined]
  ] as const) {
    const refused = await post(url, body)
    expect(refused.status, JSON.stringify(body)).toBe(400)
    if (param !== undefined) expect(await refused.json()).toMatchObject({ error: { param } })
  }
  expect(node.loaded).toHaveLength(4)
})

test('a load takes a place of its key for loads and none of an answer, and ends when its client goes away', async () => {
  const node = loadingNode()
  const { url } = await serve(node, { apiKeys: [{ name: 'one', key: 'secret', atOnce: 1 }] })
  expect((await post(url, {})).status).toBe(401)
  const abort = new AbortController()
  const client = createClient({ url, apiKey: 'secret' })
  const left = expect(client.load(undefined, { signal: abort.signal })).rejects.toThrow('left')
  await expect.poll(() => node.loaded.length).toBe(1)
  expect((await post(url, {}, { 'x-api-key': 'secret' })).status).toBe(429)
  const figures = await (await fetch(`${url}/metrics`, { headers: { 'x-api-key': 'secret' } })).text()
  expect(figures).toMatch(/answers_active 0$/m)
  const types: string[] = []
  for await (const { type } of client.generate({ input: { kind: 'raw', text: 'hi' } })) types.push(type)
  expect(types).toContain('done')
  abort.abort(new Error('left'))
  await left
  await expect.poll(() => node.signals[0]!.aborted).toBe(true)
  node.load = async () => undefined
  await expect.poll(async () => (await post(url, {}, { 'x-api-key': 'secret' })).status).toBe(200)
})

test('a server that ends waits for no load, takes none, and ends those that run with a reason', async () => {
  const node = loadingNode()
  const server = await serve(node)
  const loading = post(server.url, {})
  await expect.poll(() => node.loaded.length).toBe(1)
  expect(server.running).toBe(0)
  await server.drain(600_000)
  expect((await post(server.url, {})).status).toBe(503)
  await server.stop()
  const ended = await loading
  expect(ended.status).toBe(503)
  expect(await ended.json()).toMatchObject({ error: { code: 'stopping' } })
})
