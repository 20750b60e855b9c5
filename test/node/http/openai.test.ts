import { connect } from 'node:net'
import OpenAI from 'openai'
import { afterEach, describe, expect, test } from 'vitest'
import {
  AmbiguousModelError,
  BusyError,
  ContextLengthError,
  PlanRefusedError,
  RequestError,
  StageLostError,
  UnknownModelError
} from '../../../node/errors.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { ANSWER, endless, type FakeNode, fakeNode, RESULT, replay } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(node: FakeNode = fakeNode()): Promise<{ client: OpenAI; url: string; node: FakeNode }> {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  servers.push(server)
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
  return { client, url: server.url, node }
}

async function all<T>(items: AsyncIterable<T>): Promise<T[]> {
  const list: T[] = []
  for await (const item of items) list.push(item)
  return list
}

const question = { model: 'tiny', messages: [{ role: 'user' as const, content: 'hi' }] }

describe('chat completions', () => {
  test('a whole answer', async () => {
    const { client, node } = await serve()
    const answer = await client.chat.completions.create({
      ...question,
      max_completion_tokens: 9,
      temperature: 0,
      top_p: 0.5,
      seed: 7,
      stop: '\n'
    })
    expect(answer.object).toBe('chat.completion')
    expect(answer.choices[0]).toMatchObject({
      index: 0,
      message: { role: 'assistant', content: RESULT.text },
      finish_reason: 'stop',
      logprobs: null
    })
    // The client named none.
    expect(answer.model).toBe('tiny')
    expect(answer.usage).toEqual({
      prompt_tokens: 4,
      completion_tokens: 3,
      total_tokens: 7,
      prompt_tokens_details: { cached_tokens: 0 }
    })
    expect(answer).toMatchObject({
      edgeshard: { plan: RESULT.plan, predicted: RESULT.predicted, recoveries: 0 }
    })
    expect(node.asked).toEqual([
      {
        model: 'tiny',
        input: { kind: 'chat', messages: [{ role: 'user', content: 'hi' }], split: true },
        maxTokens: 9,
        temperature: 0,
        topP: 0.5,
        seed: 7,
        stop: ['\n']
      }
    ])
  })

  test('a streamed answer, with usage behind it', async () => {
    const { client } = await serve()
    const stream = await client.chat.completions.create({
      ...question,
      stream: true,
      stream_options: { include_usage: true }
    })
    const chunks = await all(stream)
    expect(chunks[0]!.choices[0]!.delta.role).toBe('assistant')
    expect(chunks.map(chunk => chunk.choices[0]?.delta.content ?? '').join('')).toBe(RESULT.text)
    expect(chunks.map(chunk => chunk.choices[0]?.finish_reason ?? null)).toEqual([
      null,
      null,
      null,
      'stop',
      null
    ])
    expect(chunks.at(-1)).toMatchObject({ choices: [], usage: { total_tokens: 7 } })
    expect(new Set(chunks.map(chunk => chunk.id)).size).toBe(1)
  })

  test('the stream ends with [DONE] and shows progress in comments only', async () => {
    const { url } = await serve()
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({ ...question, stream: true })
    })
    expect(response.headers.get('content-type')).toBe('text/event-stream')
    expect(response.headers.get('x-edgeshard-plan')).toBe('desk [0:5], lap_top [5:10]')
    const text = await response.text()
    expect(text).toContain(': load 1/2\n\n')
    expect(text.endsWith('data: [DONE]\n\n')).toBe(true)
  })

  test('log-probabilities', async () => {
    const { client, node } = await serve()
    const answer = await client.chat.completions.create({ ...question, logprobs: true, top_logprobs: 1 })
    const token = { token: 'He', logprob: -0.5, bytes: [72, 101] }
    expect(answer.choices[0]!.logprobs!.content).toEqual([{ ...token, top_logprobs: [token] }])
    expect(node.asked[0]!.topLogprobs).toBe(1)
  })

  test('text parts are joined', async () => {
    const { client, node } = await serve()
    const content = [
      { type: 'text' as const, text: 'a' },
      { type: 'text' as const, text: 'b' }
    ]
    await client.chat.completions.create({ model: 'tiny', messages: [{ role: 'user', content }] })
    expect(node.asked[0]!.input).toEqual({
      kind: 'chat',
      messages: [{ role: 'user', content: 'ab' }],
      split: true
    })
  })
})

describe('completions', () => {
  test('a whole answer and a streamed one', async () => {
    const { client, node } = await serve()
    const whole = await client.completions.create({ model: 'tiny', prompt: 'Once', max_tokens: 5 })
    expect(whole.choices[0]).toMatchObject({ text: RESULT.text, finish_reason: 'stop' })
    const stream = await client.completions.create({
      model: 'tiny',
      prompt: ['Once'],
      stream: true,
      logprobs: 1
    })
    const chunks = await all(stream)
    expect(chunks.map(chunk => chunk.choices[0]!.text).join('')).toBe(RESULT.text)
    expect(chunks[0]!.choices[0]!.logprobs).toMatchObject({ tokens: ['He'], token_logprobs: [-0.5] })
    expect(node.asked).toMatchObject([
      { input: { kind: 'raw', text: 'Once' }, maxTokens: 5 },
      { input: { kind: 'raw', text: 'Once' }, maxTokens: 16, topLogprobs: 1 }
    ])
  })
})

test('models', async () => {
  const { client } = await serve()
  const models = await all(client.models.list())
  expect(models.map(model => model.id)).toEqual(['tiny'])
  expect((await client.models.retrieve('tiny')).id).toBe('tiny')
  await expect(client.models.retrieve('huge')).rejects.toMatchObject({ status: 404 })
})

test('two models of one name are listed by what each can be asked by', async () => {
  const node = fakeNode()
  const [tiny] = await node.models()
  const ids = ['a', 'b'].map(letter => letter.repeat(64))
  const sole = { ...tiny!, name: 'sole', id: 'c'.repeat(64) }
  node.models = async () => [...ids.map(id => ({ ...tiny!, id })), sole]
  node.manifest = async () => {
    throw new AmbiguousModelError('tiny is the name of 2 models')
  }
  const { client, url } = await serve(node)
  const models = await all(client.models.list())
  expect(models.map(({ id }) => id)).toEqual([...ids, 'sole'])
  expect(models[0]).toMatchObject({ edgeshard: { name: 'tiny', id: ids[0], holders: [{ name: 'desk' }] } })
  expect((await client.models.retrieve(ids[1]!)).id).toBe(ids[1])
  await expect(client.models.retrieve('tiny')).rejects.toMatchObject({
    status: 400,
    code: 'model_ambiguous',
    param: 'model'
  })
  const tags = (await (await fetch(`${url}/api/tags`)).json()) as { models: { name: string }[] }
  expect(tags.models.map(({ name }) => name)).toEqual([...ids, 'sole'].map(name => `${name}:latest`))
})

describe('what the node refuses', () => {
  test.each([
    [new RequestError('the prompt has 600 tokens', 'messages'), 400, 'messages', 'invalid_request'],
    [new ContextLengthError('the prompt has 600 tokens', 'prompt'), 400, 'prompt', 'context_length_exceeded'],
    [new BusyError('64 requests wait'), 429, null, 'busy'],
    [new UnknownModelError('nobody holds "huge"'), 404, 'model', 'model_not_found'],
    [new PlanRefusedError('nothing fits'), 503, null, 'infeasible'],
    [new StageLostError('laptop died', 'peer'), 502, null, 'stage_lost'],
    [new Error('something else'), 500, null, 'internal_error']
  ])('%s', async (error, status, param, code) => {
    const { client } = await serve(
      fakeNode(async function* () {
        yield ANSWER[0]!
        throw error
      })
    )
    for (const stream of [false, true]) {
      const refused = client.chat.completions.create({ ...question, stream })
      await expect(refused).rejects.toMatchObject({
        status,
        error: { message: error.message, param, code, type: expect.any(String) }
      })
    }
  })

  test('a stage lost in the middle of a stream is said in the stream', async () => {
    const { client } = await serve(
      fakeNode(async function* () {
        yield* replay(ANSWER.slice(0, 3))
        throw new StageLostError('laptop died', 'peer')
      })
    )
    const stream = await client.chat.completions.create({ ...question, stream: true })
    let shown = ''
    const reading = (async () => {
      for await (const chunk of stream) shown += chunk.choices[0]!.delta.content ?? ''
    })()
    await expect(reading).rejects.toThrow('laptop died')
    expect(shown).toBe('Hello')
  })
})

describe('clients that go away', () => {
  test('one that is gone before its answer begins gets none', async () => {
    const node = fakeNode()
    const manifest = Promise.withResolvers<void>()
    const asked = Promise.withResolvers<void>()
    const found = node.manifest.bind(node)
    node.manifest = async model => {
      asked.resolve()
      await manifest.promise
      return await found(model)
    }
    const { url } = await serve(node)
    const socket = connect(Number(new URL(url).port), '127.0.0.1')
    const body = JSON.stringify({ messages: question.messages })
    const closed = new Promise(resolve => socket.on('close', resolve))
    socket.write(`POST /v1/chat/completions HTTP/1.1\r\nhost: ${new URL(url).host}\r\n`)
    socket.write(`content-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`)
    await asked.promise
    socket.destroy()
    await closed
    // The server has seen the end of the connection once it has answered the next request.
    await expect.poll(async () => (await fetch(`${url}/v1/models`)).status).toBe(200)
    manifest.resolve()
    await expect.poll(async () => (await fetch(`${url}/metrics`)).text()).toContain('answers_active 0\n')
    expect(node.signals).toEqual([])
  })

  test.each([true, false])('a disconnected client ends the answer (stream: %s)', async stream => {
    const node = fakeNode((_, signal) => endless(signal, 'x'))
    const { url } = await serve(node)
    const abort = new AbortController()
    const body = JSON.stringify({ ...question, stream })
    const asking = fetch(`${url}/v1/chat/completions`, { method: 'POST', body, signal: abort.signal })
    if (stream) await (await asking).body!.getReader().read()
    await expect.poll(() => node.signals.length).toBe(1)
    expect(node.signals[0]!.aborted).toBe(false)
    abort.abort()
    if (!stream) await asking.catch(() => undefined)
    await expect.poll(() => node.signals[0]!.aborted).toBe(true)
    const metrics = async () => (await fetch(`${url}/metrics`)).text()
    await expect.poll(metrics).toContain('edgeshard_answers_active 0\n')
  })

  test('clients that leave at once leave nothing behind', async () => {
    let begun = 0
    let ended = 0
    const node = fakeNode(async function* (_, signal) {
      begun++
      try {
        yield* endless(signal, 'x')
      } finally {
        ended++
      }
    })
    const { url } = await serve(node)
    const { hostname, port, host } = new URL(url)
    const body = JSON.stringify({ ...question, stream: true })
    for (let i = 0; i < 20; i++) {
      const socket = connect(Number(port), hostname)
      socket.on('error', () => undefined)
      const head = `POST /v1/chat/completions HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\n\r\n`
      await new Promise(resolve => socket.write(head + body, resolve))
      if (i % 2 === 0) await new Promise(resolve => setImmediate(resolve))
      socket.resetAndDestroy()
    }
    await expect.poll(() => begun - ended).toBe(0)
    const metrics = async () => (await fetch(`${url}/metrics`)).text()
    await expect.poll(metrics).toContain('edgeshard_answers_active 0\n')
  })

  test('a client that does not read does not make the node run ahead', async () => {
    let made = 0
    const piece = 'x'.repeat(64 << 10)
    const node = fakeNode(async function* (_, signal) {
      for await (const event of endless(signal, piece)) {
        made++
        yield event
      }
    })
    const { url } = await serve(node)
    const abort = new AbortController()
    const body = JSON.stringify({ ...question, stream: true })
    const response = await fetch(`${url}/v1/chat/completions`, { method: 'POST', body, signal: abort.signal })
    let before = -1
    await expect
      .poll(
        () => {
          const still = made === before
          before = made
          return still
        },
        { interval: 200, timeout: deadlineMs(20_000) }
      )
      .toBe(true)
    // Socket buffers of both sides hold some; what the node makes stays within them.
    expect(made * piece.length).toBeLessThan(64 << 20)
    abort.abort()
    await response.body!.cancel().catch(() => undefined)
    await expect.poll(() => node.signals[0]!.aborted).toBe(true)
  })
})
