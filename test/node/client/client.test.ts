import { createServer, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { newApiToken } from '../../../node/api-file.ts'
import { type Client, createClient } from '../../../node/client/index.ts'
import { PlanRefusedError, StageLostError } from '../../../node/errors.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { peerIdOf } from '../../fixtures/peer-ids.ts'
import { ANSWER, endless, type FakeNode, fakeNode, RESULT, replay } from '../http/fake-node.ts'

const TOKEN = newApiToken()
const servers: HttpServer[] = []
const others: Server[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
  for (const server of others.splice(0)) {
    server.closeAllConnections()
    server.close()
  }
})

async function serve(node: FakeNode = fakeNode(), apiKey?: string): Promise<Client> {
  const server = await startHttpServer({
    node,
    host: '127.0.0.1',
    port: 0,
    token: TOKEN,
    ...(apiKey && { apiKey })
  })
  servers.push(server)
  return createClient({ url: server.url, apiKey, token: TOKEN })
}

/** Something else than a node. */
async function listen(handler: RequestListener): Promise<string> {
  const server = createServer(handler)
  others.push(server)
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

async function all<T>(events: AsyncGenerator<T>): Promise<T[]> {
  const list: T[] = []
  for await (const event of events) list.push(event)
  return list
}

const raw = { input: { kind: 'raw' as const, text: 'Once' } }
const question = { messages: [{ role: 'user' as const, content: 'hi' }] }

describe('a node', () => {
  test('passes on its events', async () => {
    const node = fakeNode()
    expect(await all((await serve(node)).generate(raw))).toEqual(ANSWER)
    expect(node.asked).toEqual([raw])
  })

  test('answers as OpenAI does, whole and in pieces', async () => {
    const client = await serve()
    const whole = await client.chat(question)
    expect(whole.choices[0]?.message.content).toBe(RESULT.text)
    expect(whole.edgeshard.plan).toEqual(RESULT.plan)
    const pieces = await all(client.chatStream(question))
    expect(pieces.map(({ choices }) => choices[0]?.delta.content ?? '').join('')).toBe(RESULT.text)
    expect(pieces.at(-1)?.usage?.completion_tokens).toBe(RESULT.tokens.length)
    expect((await client.complete({ prompt: 'Once' })).choices[0]?.text).toBe(RESULT.text)
    const texts = await all(client.completeStream({ prompt: 'Once' }))
    expect(texts.map(({ choices }) => choices[0]?.text ?? '').join('')).toBe(RESULT.text)
  })

  test('passes on the parts that an answer had, each with its plan', async () => {
    const { plan, predicted } = RESULT
    const stretches = [1, 2].map(tokens => ({ plan, predicted, tokens, tpotMs: 3 }))
    const client = await serve(fakeNode(() => replay([{ type: 'done', result: { ...RESULT, stretches } }])))
    const { edgeshard } = await client.complete({ prompt: 'Once' })
    expect(edgeshard.stretches).toEqual(stretches)
  })

  test('says what it knows', async () => {
    const node = fakeNode()
    const client = await serve(node)
    expect(await client.mesh()).toEqual(node.mesh())
    expect((await client.models()).map(({ name }) => name)).toEqual(['tiny'])
    expect(await client.tokenize('ab')).toEqual([97, 98])
    expect(await client.invite()).toBe('ticket-1')
    expect(await client.bans()).toEqual([])
    expect(await client.rotate()).toEqual({ reached: [], missed: [] })
    const lost = peerIdOf('lost')
    expect(await client.ban(lost)).toEqual({ out: [{ peerId: lost, name: 'lost' }], kept: [] })
    expect(await client.promote(lost)).toEqual(await client.membership())
    expect(await client.metrics()).toContain('# TYPE')
  })

  test('tells followers of the mesh, and lets them go', async () => {
    const node = fakeNode()
    const client = await serve(node)
    for await (const state of client.events()) {
      expect(state).toEqual(node.mesh())
      break
    }
  })

  test('is asked with the key', async () => {
    const client = await serve(fakeNode(), 'secret')
    expect((await client.models()).length).toBe(1)
    const stranger = createClient({ url: client.url })
    await expect(stranger.models()).rejects.toMatchObject({ code: 'invalid_api_key', status: 401 })
  })
})

describe('what goes wrong', () => {
  test('an answer whose first byte takes longer than fetch waits is late: the node is there', async () => {
    const cause = Object.assign(new Error('Headers Timeout Error'), { code: 'UND_ERR_HEADERS_TIMEOUT' })
    vi.stubGlobal('fetch', () => Promise.reject(new TypeError('fetch failed', { cause })))
    const asked = createClient({ url: 'http://127.0.0.1:1' }).chat({ messages: [] })
    await expect(asked).rejects.toMatchObject({ name: 'LateAnswerError', code: 'deadline' })
    vi.unstubAllGlobals()
  })

  test('before an answer has the code and status of the node’s error', async () => {
    const client = await serve(
      // biome-ignore lint/correctness/useYield: it fails before its first event
      fakeNode(async function* () {
        throw new PlanRefusedError('nothing fits')
      })
    )
    const refused = { code: 'infeasible', status: 503, message: 'nothing fits' }
    await expect(all(client.generate(raw))).rejects.toMatchObject(refused)
    await expect(client.chat(question)).rejects.toMatchObject(refused)
  })

  test('within an answer, too', async () => {
    const client = await serve(
      fakeNode(async function* () {
        yield* replay(ANSWER.slice(0, 3))
        throw new StageLostError('laptop died', 'peer')
      })
    )
    const lost = { code: 'stage_lost', status: 502, message: 'laptop died' }
    await expect(all(client.generate(raw))).rejects.toMatchObject(lost)
    await expect(all(client.chatStream(question))).rejects.toMatchObject(lost)
  })

  test('a field that is wrong is named', async () => {
    const client = await serve()
    await expect(client.complete({ prompt: 'Once', temperature: 9 })).rejects.toMatchObject({
      code: 'invalid_request',
      param: 'temperature'
    })
  })

  test('nobody there', async () => {
    const client = createClient({ url: 'http://127.0.0.1:9' })
    await expect(client.mesh()).rejects.toMatchObject({ code: 'no_node' })
    await expect(all(client.generate(raw))).rejects.toMatchObject({ code: 'no_node' })
  })

  test('somebody there who never answers', async () => {
    const client = createClient({ url: await listen(() => undefined), timeoutMs: 100 })
    await expect(client.mesh()).rejects.toMatchObject({ name: 'LateAnswerError', code: 'deadline' })
  })

  test('something else than a node is there', async () => {
    const page = createClient({ url: await listen((_, answer) => answer.end('<html>')) })
    await expect(page.mesh()).rejects.toMatchObject({ code: 'broken_answer' })
    const strange = createClient({
      url: await listen((_, answer) => {
        answer.statusCode = 418
        answer.end('a teapot')
      })
    })
    await expect(strange.mesh()).rejects.toMatchObject({ code: 'internal_error', status: 418 })
  })

  test('an answer that ends too early is no whole answer', async () => {
    const first: GenerateEvent = ANSWER[0]!
    const url = await listen((_, answer) => answer.end(`${JSON.stringify(first)}\n`))
    await expect(all(createClient({ url }).generate(raw))).rejects.toMatchObject({ code: 'broken_answer' })
  })

  test('a connection that breaks', async () => {
    const url = await listen((_, answer) => {
      answer.write(`${JSON.stringify(ANSWER[0])}\n`, () => answer.destroy())
    })
    await expect(all(createClient({ url }).generate(raw))).rejects.toMatchObject({ code: 'broken_answer' })
  })

  test('the caller has had enough: the node hears of it', async () => {
    const node = fakeNode((_, signal) => endless(signal, 'on '))
    const client = await serve(node)
    const abort = new AbortController()
    const reading = (async () => {
      for await (const event of client.generate(raw, { signal: abort.signal })) {
        if (event.type === 'text') abort.abort(new Error('enough'))
      }
    })()
    await expect(reading).rejects.toThrow('enough')
    await expect.poll(() => node.signals[0]?.aborted).toBe(true)
  })

  test.each(['ftp://127.0.0.1', 'nonsense'])('%s is no address', url => {
    expect(() => createClient({ url })).toThrow(TypeError)
  })
})
