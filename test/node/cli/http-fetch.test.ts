import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, expect, test } from 'vitest'
import { fetchWithin, httpFetch } from '../../../node/cli/http-fetch.ts'
import { createClient } from '../../../node/client/index.ts'
import { RequestError } from '../../../node/errors.ts'
import { startHttpServer } from '../../../node/http/index.ts'
import { ANSWER, fakeNode } from '../http/fake-node.ts'

const servers: Server[] = []
afterEach(() => {
  for (const server of servers.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

async function listen(handler: RequestListener): Promise<string> {
  const server = createServer(handler)
  servers.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

const clientOf = (url: string) => createClient({ url, fetch: httpFetch })
const raw = { input: { kind: 'raw' as const, text: 'Once' } }

async function all<T>(events: AsyncGenerator<T>): Promise<T[]> {
  const list: T[] = []
  for await (const event of events) list.push(event)
  return list
}

test('a node is asked as by fetch: its events, its answers and its refusals', async () => {
  const node = fakeNode()
  await using server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  const client = clientOf(server.url)
  expect(await all(client.generate(raw))).toEqual(ANSWER)
  expect(node.asked).toEqual([raw])
  const known = createClient({ url: server.url })
  expect(await client.models()).toEqual(await known.models())
  expect(await client.metrics()).toContain('edgeshard_')
  // biome-ignore lint/correctness/useYield: it is refused before anything happens.
  const refusing = fakeNode(async function* () {
    throw new RequestError('the prompt is empty', 'prompt')
  })
  await using other = await startHttpServer({ node: refusing, host: '127.0.0.1', port: 0 })
  await expect(all(clientOf(other.url).generate(raw))).rejects.toMatchObject({
    name: 'ApiError',
    status: 400,
    message: 'the prompt is empty'
  })
})

test('where nothing listens that is said, and why', async () => {
  const url = await listen(() => {})
  servers.splice(0)[0]!.close()
  const said = {
    name: 'NoNodeError',
    message: expect.stringMatching(/no node answers at .*: connect ECONNREFUSED/)
  }
  await expect(clientOf(url).mesh()).rejects.toMatchObject(said)
})

test('an answer that breaks off is said to have, whether it is read piece by piece or whole', async () => {
  const url = await listen((_, response) => {
    response.writeHead(200, { 'content-length': 1000 })
    response.write('{"type":"waiting"}\n', () => setTimeout(() => response.destroy(), 50))
  })
  await expect(all(clientOf(url).generate(raw))).rejects.toMatchObject({ name: 'BrokenAnswerError' })
  await expect(clientOf(url).mesh()).rejects.toMatchObject({ name: 'BrokenAnswerError' })
})

test('so is a refusal that breaks off, and one in several lines is read whole', async () => {
  const error = { message: 'the mesh is busy', code: 'too_many_requests' }
  const url = await listen((request, response) => {
    const text = JSON.stringify({ error }, null, 2)
    const isBroken = request.url === '/api/mesh'
    response.writeHead(503, { 'content-length': text.length })
    if (isBroken) response.write(text.slice(0, 9), () => setTimeout(() => response.destroy(), 50))
    else response.end(text)
  })
  for (const client of [clientOf(url), createClient({ url })]) {
    await expect(client.mesh()).rejects.toMatchObject({ name: 'BrokenAnswerError' })
    await expect(all(client.generate(raw))).rejects.toMatchObject({ name: 'ApiError', status: 503, ...error })
  }
})

test('a signal ends what is asked, and what is read, with its reason; who leaves ends the connection', async () => {
  let closed = 0
  const url = await listen((request, response) => {
    response.on('close', () => closed++)
    if (request.url === '/api/mesh') return
    response.writeHead(200)
    response.write('{"type":"text","text":"a","logprobs":[]}\n')
  })
  const ended = async (work: (signal: AbortSignal) => Promise<unknown>) => {
    const abort = new AbortController()
    const working = work(abort.signal)
    setTimeout(() => abort.abort(new Error('enough')), 50)
    await expect(working).rejects.toThrow('enough')
  }
  await ended(signal => clientOf(url).mesh({ signal }))
  await ended(signal => all(clientOf(url).generate(raw, { signal })))
  await expect(clientOf(url).mesh({ signal: AbortSignal.abort(new Error('before')) })).rejects.toThrow(
    'before'
  )
  for await (const _ of clientOf(url).generate(raw)) break
  while (closed < 3) await delay(10)
})

test('a node that takes the connection and says nothing is not waited for without an end', async () => {
  const url = await listen(() => {})
  const client = createClient({ url, fetch: (asked, init) => fetchWithin(asked, init, 50) })
  await expect(all(client.generate(raw))).rejects.toMatchObject({
    name: 'NoNodeError',
    message: expect.stringContaining('nothing came for 0.05 s')
  })
})

test('a connection that the node closes between two requests costs none of them', async () => {
  const asked = new Map<object, number>()
  const url = await listen(({ socket }, response) => {
    asked.set(socket, (asked.get(socket) ?? 0) + 1)
    // The second request on a connection meets its end.
    if (asked.get(socket)! > 1) socket.destroy()
    else response.end('{}')
  })
  const client = clientOf(url)
  await client.mesh()
  await delay(20)
  expect(await client.mesh()).toEqual({})
})
