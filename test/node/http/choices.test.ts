import OpenAI from 'openai'
import { afterEach, describe, expect, test, vi } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { fakeNode, RESULT, replay } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

/** A node that answers with the prompt's kind and the seed. */
async function serve() {
  const node = fakeNode(({ seed, input }) => {
    const text = `${input.kind === 'raw' ? input.text : input.kind} ${seed}`
    const events: GenerateEvent[] = [
      { type: 'text', text, tokens: [5], logprobs: [] },
      { type: 'done', result: { ...RESULT, text } }
    ]
    return replay(events)
  })
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  servers.push(server)
  return { client: new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 }), node }
}

const question = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }], seed: 7, n: 3 }
/** Of a prompt of 4 tokens and three answers of 3. */
const USAGE = { prompt_tokens: 4, completion_tokens: 9, total_tokens: 13 }

describe('several choices of a chat', () => {
  test('whole: each with its own seed, the prompt counted once', async () => {
    const { client } = await serve()
    const { choices, usage } = await client.chat.completions.create(question)
    expect(choices.map(({ index, message }) => [index, message.content])).toEqual([
      [0, 'chat 7'],
      [1, 'chat 8'],
      [2, 'chat 9']
    ])
    expect(usage).toMatchObject(USAGE)
  })

  test('in pieces: one behind another, each with its beginning and its end', async () => {
    const { client } = await serve()
    const seen: Record<number, string[]> = {}
    let usage: unknown
    const stream = await client.chat.completions.create({
      ...question,
      stream: true,
      stream_options: { include_usage: true }
    })
    for await (const chunk of stream) {
      usage = chunk.usage
      for (const { index, delta, finish_reason } of chunk.choices) {
        ;(seen[index] ??= []).push(delta.role ?? finish_reason ?? delta.content!)
      }
    }
    const choice = (seed: number) => ['assistant', `chat ${seed}`, 'stop']
    expect(seen).toEqual({ 0: choice(7), 1: choice(8), 2: choice(9) })
    expect(usage).toMatchObject(USAGE)
  })

  test('without a seed each draws its own', async () => {
    const { client, node } = await serve()
    await client.chat.completions.create({ ...question, seed: null })
    expect(node.asked.map(({ seed }) => seed)).toEqual([undefined, undefined, undefined])
  })
})

test('several choices of several prompts follow their prompts', async () => {
  const { client } = await serve()
  const { choices, usage } = await client.completions.create({
    model: 'tiny',
    prompt: ['a', 'b'],
    seed: 7,
    n: 2
  })
  expect(choices.map(({ index, text }) => [index, text])).toEqual([
    [0, 'a 7'],
    [1, 'a 8'],
    [2, 'b 7'],
    [3, 'b 8']
  ])
  expect(usage).toMatchObject({ prompt_tokens: 8, completion_tokens: 12, total_tokens: 20 })
})

test('what is passed over of a penalty is named', async () => {
  const { client } = await serve()
  const body = { ...question, n: 1, repetition_penalty: 1.1, top_k: 20 }
  const { response } = await client.chat.completions.create(body).withResponse()
  expect(response.headers.get('x-edgeshard-ignored')).toBe('repetition_penalty.prompt')
})

describe('a request that has been accepted is finished', () => {
  const asked = { model: 'tiny', messages: question.messages, n: 12 }

  /** A node whose answers wait until a test lets them go on, and what takes choices one behind another or some at once. */
  async function held(keys: Partial<Parameters<typeof startHttpServer>[0]> = {}) {
    const go = Promise.withResolvers<void>()
    const node = fakeNode(async function* () {
      await go.promise
      yield* replay([{ type: 'done', result: RESULT }])
    })
    const server = await startHttpServer({ node, host: '127.0.0.1', port: 0, ...keys })
    servers.push(server)
    const post = (body: object, key = 'k') =>
      fetch(`${server.url}/v1/chat/completions`, {
        method: 'POST',
        headers: { authorization: `Bearer ${key}` },
        body: JSON.stringify(body)
      })
    return { node, server, post, go: go.resolve }
  }

  test.each([false, true])('while the server takes nothing new (stream: %s)', async stream => {
    const { node, server, post, go } = await held()
    const answer = post({ ...asked, stream })
    await vi.waitUntil(() => node.asked.length > 0, { timeout: deadlineMs(1000) })
    const drained = server.drain(deadlineMs(60_000))
    expect((await post(asked)).status).toBe(503)
    go()
    const text = await (await answer).text()
    expect(text.match(/"finish_reason":"stop"/g)).toHaveLength(12)
    await drained
    expect(server.running).toBe(0)
  })

  test('though its key has no place left: it has taken those that it needs', async () => {
    const apiKeys = [{ name: 'me', key: 'k', atOnce: 3 }]
    const { node, post, go } = await held({ apiKeys })
    const answer = post(asked)
    await vi.waitUntil(() => node.asked.length === 3, { timeout: deadlineMs(1000) })
    expect((await post({ ...asked, n: 1 })).status).toBe(429)
    go()
    const { choices } = (await (await answer).json()) as { choices: unknown[] }
    expect(choices).toHaveLength(12)
    expect((await post({ ...asked, n: 1 })).status).toBe(200)
  })

  test('and its client may leave: nothing of it goes on', async () => {
    const { node, server } = await held()
    const abort = new AbortController()
    const leaving = fetch(`${server.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify(asked),
      signal: abort.signal
    })
    await vi.waitUntil(() => node.signals.length === 8, { timeout: deadlineMs(1000) })
    abort.abort()
    await expect(leaving).rejects.toThrow()
    await vi.waitUntil(() => node.signals.every(({ aborted }) => aborted), { timeout: deadlineMs(1000) })
    await vi.waitUntil(() => server.running === 0, { timeout: deadlineMs(1000) })
    expect(node.asked).toHaveLength(8)
  })
})
