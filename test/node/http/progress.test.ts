import Anthropic from '@anthropic-ai/sdk'
import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { createClient } from '../../../node/client/index.ts'
import { COMMENT_MS, HEARTBEAT_MS } from '../../../node/http/constants.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { ANSWER, fakeNode, type Generate, RESULT, replay } from './fake-node.ts'

/** How far a long prompt is, while it is computed: each API says so as its clients can read it. */

/** The clock, which stands still. */
let nowMs = 1000
beforeEach(() => void vi.spyOn(performance, 'now').mockImplementation(() => nowMs))

const servers: HttpServer[] = []
afterEach(async () => {
  vi.restoreAllMocks()
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

const prefill = (done: number): GenerateEvent => ({ type: 'prefill', done, total: 600, cached: 32, ms: 7.4 })
const PROMPT: GenerateEvent = { type: 'prompt', tokens: 600, tools: null, unread: [] }
/** The events of an answer to a prompt of 600 tokens. */
const LONG = [PROMPT, ...ANSWER.slice(0, 2), prefill(256), prefill(512), prefill(600), ...ANSWER.slice(2)]

async function serve(generate: Generate = () => replay(LONG)) {
  const node = fakeNode(generate)
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  servers.push(server)
  const { url } = server
  const post = async (path: string, body: object) => {
    const response = await fetch(`${url}${path}`, {
      method: 'POST',
      body: JSON.stringify({ model: 'tiny', max_tokens: 9, stream: true, ...body })
    })
    return await response.text()
  }
  return { url, post, openai: new OpenAI({ baseURL: `${url}/v1`, apiKey: 'none', maxRetries: 0 }) }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const read: T[] = []
  for await (const item of items) read.push(item)
  return read
}

const messages = [{ role: 'user' as const, content: 'hi' }]
/** The second one comes too soon. */
const COMMENTS = [': prompt 256/600']
const commentsIn = (text: string) => text.split('\n').filter(line => line.startsWith(': prompt'))

describe('streams of server-sent events have comments', () => {
  test.each([
    ['/v1/chat/completions', { messages }],
    ['/v1/chat/completions', { messages, n: 2 }],
    ['/v1/completions', { prompt: 'hi' }],
    ['/v1/responses', { input: 'hi', max_tokens: undefined }],
    ['/v1/messages', { messages }]
  ])('%s', async (path, body) => {
    const { post } = await serve()
    const times = 'n' in body ? 2 : 1
    expect(commentsIn(await post(path, body))).toEqual(Array(times).fill(COMMENTS).flat())
  })

  test('however often it is told, for clients count lines without data', async () => {
    const often = Array.from({ length: 400 }, (_, i) => prefill(i + 1))
    const { post } = await serve(() => replay([...LONG.slice(0, 3), ...often, ...LONG.slice(6)]))
    const lines = (await post('/v1/chat/completions', { messages })).split('\n')
    const data = lines.flatMap((line, i) => (line.startsWith('data: ') ? [i] : []))
    const between = data.map((at, i) => at - (data[i - 1] ?? -1) - 1)
    expect(between.length).toBeGreaterThan(2)
    expect(Math.max(...between)).toBeLessThan(300)
  })

  test('again after a while', async () => {
    const { post } = await serve(async function* () {
      yield* replay(LONG.slice(0, 4))
      nowMs += COMMENT_MS
      yield* replay(LONG.slice(4))
    })
    const text = await post('/v1/chat/completions', { messages })
    expect(commentsIn(text)).toEqual([': prompt 256/600', ': prompt 512/600'])
  })

  test('that OpenAI’s client reads through', async () => {
    const { openai } = await serve()
    let chat = ''
    for await (const { choices } of await openai.chat.completions.create({
      model: 'tiny',
      messages,
      stream: true
    }))
      chat += choices[0]?.delta.content ?? ''
    let response = ''
    for await (const event of await openai.responses.create({ model: 'tiny', input: 'hi', stream: true })) {
      if (event.type === 'response.output_text.delta') response += event.delta
    }
    expect([chat, response]).toEqual([RESULT.text, RESULT.text])
  })
})

test('a stream of Anthropic’s has pings, behind its beginning, that its client reads through', async () => {
  const { url, post } = await serve()
  const text = await post('/v1/messages', { messages })
  const events = text.split('\n').flatMap(line => (line.startsWith('event: ') ? [line.slice(7)] : []))
  expect(events.slice(0, 3)).toEqual(['message_start', 'ping', 'content_block_start'])
  const client = new Anthropic({ baseURL: url, apiKey: 'none', maxRetries: 0 })
  const streamed = client.messages.stream({ model: 'tiny', max_tokens: 9, messages })
  expect((await streamed.finalMessage()).content).toMatchObject([{ type: 'text', text: RESULT.text }])
})

describe('`return_progress`, as llama.cpp has it', () => {
  const progressIn = (text: string) =>
    text
      .split('\n')
      .filter(line => line.startsWith('data: {'))
      .flatMap(line => JSON.parse(line.slice(6)).prompt_progress ?? [])

  test.each([
    ['/v1/chat/completions', { messages }],
    ['/v1/completions', { prompt: 'hi' }]
  ])('%s', async (path, body) => {
    const { post } = await serve()
    const text = await post(path, { ...body, return_progress: true })
    const far = (processed: number) => ({ total: 600, cache: 32, processed, time_ms: 7 })
    expect(progressIn(text)).toEqual([far(256), far(512), far(600)])
    expect(commentsIn(text)).toEqual([])
    expect(progressIn(await post(path, body))).toEqual([])
  })

  test('OpenAI’s client reads through it', async () => {
    const { openai } = await serve()
    const asked = { model: 'tiny', messages, return_progress: true, stream: true as const }
    let text = ''
    for await (const { choices } of await openai.chat.completions.create(asked))
      text += choices[0]!.delta.content ?? ''
    expect(text).toBe(RESULT.text)
  })
})

describe('lines of JSON are objects, each of them', () => {
  const linesOf = (text: string) => {
    const lines = text.split('\n')
    expect(lines.pop()).toBe('')
    return lines.map(line => JSON.parse(line))
  }

  test.each([
    ['/api/chat', { messages }],
    ['/api/generate', { prompt: 'hi' }]
  ])('Ollama’s %s', async (path, body) => {
    const { post } = await serve()
    const lines = linesOf(await post(path, { ...body, max_tokens: undefined }))
    const told = lines.flatMap(({ edgeshard }) => edgeshard?.prompt ?? [])
    expect(told).toEqual([256, 512].map(done => ({ done, total: 600 })))
  })

  test('Ollama’s client reads through them', async () => {
    const { url } = await serve()
    let text = ''
    const chat = await new Ollama({ host: url }).chat({ model: 'tiny', messages, stream: true })
    for await (const { message } of chat) text += message.content
    expect(text).toBe(RESULT.text)
  })

  test('a stream of this project’s that is silent', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    try {
      const over = Promise.withResolvers<void>()
      const { url, post } = await serve(async function* () {
        yield* replay(ANSWER.slice(0, 3))
        await over.promise
        yield* replay(ANSWER.slice(3))
      })
      const input = { kind: 'raw' as const, text: 'hi' }
      let isOver = false
      const reading = Promise.all([
        post('/api/generate', { model: undefined, input }),
        all(createClient({ url }).generate({ input }))
      ]).finally(() => {
        isOver = true
      })
      for (let waited = 0; !isOver; waited++) {
        await vi.advanceTimersByTimeAsync(HEARTBEAT_MS)
        await new Promise(resolve => setImmediate(resolve))
        if (waited === 20) over.resolve()
      }
      const [text, events] = await reading
      const types = linesOf(text).map(({ type }) => type)
      expect(types).toContain('waiting')
      expect(types.filter(type => type !== 'waiting')).toEqual(ANSWER.map(({ type }) => type))
      expect(events).toEqual(ANSWER)
    } finally {
      vi.useRealTimers()
    }
  })

  test('this project’s own client is told', async () => {
    const { url } = await serve()
    const events = []
    for await (const event of createClient({ url }).generate({ input: { kind: 'raw', text: 'hi' } })) {
      if (event.type === 'prefill') events.push(event)
    }
    expect(events).toEqual([prefill(256), prefill(512), prefill(600)])
  })
})
