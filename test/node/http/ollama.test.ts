import { Ollama } from 'ollama'
import { afterEach, expect, test, vi } from 'vitest'
import { BusyError, RequestError, StageLostError, UnknownModelError } from '../../../node/errors.ts'
import { HEARTBEAT_MS } from '../../../node/http/constants.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { ANSWER, CALLING, endless, type FakeNode, fakeNode, RESULT, replay } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(node: FakeNode = fakeNode()) {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  servers.push(server)
  const post = async (path: string, body: object) => {
    const response = await fetch(`${server.url}${path}`, { method: 'POST', body: JSON.stringify(body) })
    const text = await response.text()
    const lines = text
      .trim()
      .split('\n')
      .map(line => JSON.parse(line) as Record<string, unknown>)
    return { status: response.status, lines, type: response.headers.get('content-type') }
  }
  return { url: server.url, post, client: new Ollama({ host: server.url }) }
}

const FIGURES = {
  done: true,
  done_reason: 'stop',
  prompt_eval_count: 4,
  eval_count: 3,
  prompt_eval_duration: 12_500_000,
  eval_duration: 6_500_000
}

test('/api/chat streams messages, the last with figures', async () => {
  const node = fakeNode()
  const { post } = await serve(node)
  const options = { temperature: 0, num_predict: 7, seed: 3, top_p: 0.5, stop: ['x'], num_ctx: 2048 }
  const messages = [{ role: 'user', content: 'hi' }]
  const { lines, type } = await post('/api/chat', { model: 'tiny', messages, options, keep_alive: '5m' })
  expect(type).toBe('application/x-ndjson')
  expect(lines.map(({ message }) => (message as { content: string }).content)).toEqual(['Hello', ' 🦙', ''])
  expect(lines.map(({ done }) => done)).toEqual([false, false, true])
  expect(lines.at(-1)).toMatchObject({ model: 'tiny', ...FIGURES })
  expect(node.asked).toEqual([
    {
      model: 'tiny',
      input: { kind: 'chat', messages, split: true },
      temperature: 0,
      maxTokens: 7,
      seed: 3,
      topP: 0.5,
      stop: ['x'],
      keepAliveMs: 300_000
    }
  ])
})

test('/api/chat and /api/generate as a whole', async () => {
  const node = fakeNode()
  const { post } = await serve(node)
  const messages = [{ role: 'user', content: 'hi' }]
  const chat = await post('/api/chat', { model: 'tiny', messages, stream: false })
  expect(chat.lines).toMatchObject([{ message: { role: 'assistant', content: RESULT.text }, ...FIGURES }])
  const generated = await post('/api/generate', { model: 'tiny', prompt: 'hi', system: 's', stream: false })
  expect(generated.lines).toMatchObject([{ response: RESULT.text, ...FIGURES }])
  await post('/api/generate', {
    model: 'tiny',
    prompt: 'Once',
    raw: true,
    stream: false,
    options: { num_predict: -1 }
  })
  expect(node.asked.slice(1)).toEqual([
    {
      model: 'tiny',
      input: { kind: 'chat', messages: [{ role: 'system', content: 's' }, messages[0]], split: true }
    },
    { model: 'tiny', input: { kind: 'raw', text: 'Once' } }
  ])
})

test('a request without a prompt has the model loaded, as its options would have it', async () => {
  const node = fakeNode()
  const { post } = await serve(node)
  expect((await post('/api/generate', { model: 'tiny' })).lines).toMatchObject([
    { done: true, done_reason: 'load' }
  ])
  const chosen = { privacy: 'sealed', standby: true, options: { num_predict: 7, seed: 1 } }
  expect((await post('/api/chat', { model: 'tiny:latest', messages: [], ...chosen })).lines).toMatchObject([
    { done: true, message: { content: '' } }
  ])
  expect(node.loaded).toEqual([{ model: 'tiny' }, { model: 'tiny', privacy: 'sealed', maxTokens: 7 }])
  expect(node.asked).toEqual([])
  node.load = () => Promise.reject(new UnknownModelError('no device holds it'))
  expect(await post('/api/generate', { model: 'other' })).toMatchObject({
    status: 404,
    lines: [{ error: 'no device holds it' }]
  })
  // It can be asked all the same.
  for (const error of [new BusyError('others have it'), new RequestError('nothing stays', 'keepAliveMs')]) {
    node.load = () => Promise.reject(error)
    expect(await post('/api/generate', { model: 'tiny' })).toMatchObject({
      status: 200,
      lines: [{ done: true }]
    })
  }
})

test('keep_alive says how long a model stays loaded: 0, and no prompt, lets it go', async () => {
  const node = fakeNode()
  const { post } = await serve(node)
  const messages = [{ role: 'user', content: 'hi' }]
  for (const keep_alive of [0, -1, '90s', '-1', null]) {
    await post('/api/chat', { model: 'tiny', messages, keep_alive, stream: false })
  }
  expect(node.asked.map(({ keepAliveMs }) => keepAliveMs)).toEqual([0, -1, 90_000, -1, undefined])
  expect((await post('/api/generate', { model: 'tiny', keep_alive: 0 })).lines).toMatchObject([
    { done: true, done_reason: 'unload' }
  ])
  expect((await post('/api/chat', { model: 'tiny', messages: [], keep_alive: '1h' })).lines).toMatchObject([
    { done: true, done_reason: 'load' }
  ])
  expect(node.kept).toEqual([['tiny', 0]])
  expect(node.loaded).toEqual([{ model: 'tiny', keepAliveMs: 3_600_000 }])
  const odd = await post('/api/chat', { model: 'tiny', messages, keep_alive: 'soon' })
  expect(odd).toMatchObject({ status: 400, lines: [{ error: expect.stringMatching(/^keep_alive: give/) }] })
})

test('/api/tags and /api/version', async () => {
  const { url } = await serve()
  const { models } = (await (await fetch(`${url}/api/tags`)).json()) as { models: object[] }
  expect(models).toMatchObject([
    { name: 'tiny:latest', model: 'tiny:latest', size: 1000, details: { family: 'llama' } }
  ])
  // Programs refuse versions before 0.6.4.
  expect(await (await fetch(`${url}/api/version`)).json()).toEqual({
    version: expect.stringMatching(/^0\.1\d\.\d+$/),
    edgeshard: expect.stringMatching(/^\d+\.\d+\.\d+/)
  })
})

test('errors are one string', async () => {
  const { post } = await serve(
    fakeNode(async function* ({ model }) {
      if (model === 'huge') throw new UnknownModelError('nobody holds "huge"')
      yield* replay(ANSWER.slice(0, 3))
      throw new StageLostError('laptop died', 'peer')
    })
  )
  const messages = [{ role: 'user', content: 'hi' }]
  const unknown = await post('/api/chat', { model: 'huge', messages })
  expect(unknown).toMatchObject({ status: 404, lines: [{ error: 'nobody holds "huge"' }] })
  const lost = await post('/api/chat', { model: 'tiny', messages })
  expect(lost.lines.at(-1)).toEqual({ error: 'laptop died' })
  const hot = await post('/api/generate', { model: 'tiny', prompt: 'x', options: { temperature: -1 } })
  expect(hot.status).toBe(400)
})

const WEATHER = {
  type: 'function',
  function: {
    name: 'weather',
    description: 'How it is outside',
    parameters: { type: 'object', properties: { city: { type: 'string' } } }
  }
}
const CALLS = [
  { function: { name: 'weather', arguments: { city: 'Rome' } } },
  { function: { name: 'clock', arguments: {} } }
]

test('thoughts and calls of tools, whole and streamed', async () => {
  const node = fakeNode(() => replay(CALLING))
  const { client } = await serve(node)
  const asked = {
    model: 'tiny:latest',
    messages: [{ role: 'user', content: 'Rome?' }],
    tools: [WEATHER],
    think: true
  }
  const whole = await client.chat(asked)
  expect(whole.message).toMatchObject({ content: 'I look.', thinking: 'Which city?', tool_calls: CALLS })
  expect(whole.model).toBe('tiny:latest')
  const pieces: { content: string; thinking?: string; tool_calls?: object[] }[] = []
  for await (const { message } of await client.chat({ ...asked, stream: true })) pieces.push(message)
  expect(pieces.map(({ content }) => content).join('')).toBe('I look.')
  expect(pieces.map(({ thinking = '' }) => thinking).join('')).toBe('Which city?')
  expect(pieces.flatMap(({ tool_calls: calls = [] }) => calls)).toMatchObject(CALLS)
  expect(node.asked[0]).toMatchObject({ model: 'tiny', input: { thinking: true } })
  expect(node.asked[0]!.input).toMatchObject({
    tools: [{ name: 'weather', parameters: WEATHER.function.parameters }]
  })
})

test('a conversation with calls and results, which have no ids', async () => {
  const node = fakeNode()
  const { client } = await serve(node)
  await client.chat({
    model: 'tiny',
    messages: [
      { role: 'user', content: 'Rome?' },
      { role: 'assistant', content: '', thinking: 'Hm.', tool_calls: CALLS },
      { role: 'tool', content: 'rain' },
      { role: 'tool', content: '12:00', tool_name: 'clock' }
    ]
  })
  expect(node.asked[0]!.input).toMatchObject({
    messages: [
      { role: 'user' },
      {
        role: 'assistant',
        reasoning: 'Hm.',
        toolCalls: [
          { id: 'call_1_0', name: 'weather', arguments: '{"city":"Rome"}' },
          { id: 'call_1_1', name: 'clock', arguments: '{}' }
        ]
      },
      { role: 'tool', content: 'rain', toolCallId: 'call_1_0', name: 'weather' },
      { role: 'tool', content: '12:00', toolCallId: 'call_1_1', name: 'clock' }
    ]
  })
})

test('what its clients ask of models', async () => {
  const node = fakeNode(undefined, '{% if tools %}<tool_call>{% endif %}<think></think>{{ messages }}')
  const state = node.mesh()
  node.mesh = () => ({
    ...state,
    deployments: [
      {
        modelId: 'a'.repeat(64),
        objective: 'latency',
        plan: RESULT.plan,
        predicted: RESULT.predicted,
        slots: 1,
        microBatches: 1,
        sessions: 0
      }
    ]
  })
  const { client } = await serve(node)
  expect((await client.list()).models.map(({ name }) => name)).toEqual(['tiny:latest'])
  const shown = await client.show({ model: 'tiny:latest' })
  expect(shown).toMatchObject({
    capabilities: ['completion', 'tools', 'thinking'],
    details: { family: 'llama' },
    model_info: { 'general.architecture': 'llama', 'llama.context_length': 512 }
  })
  expect(shown.template).toContain('<tool_call>')
  expect((await client.ps()).models).toMatchObject([{ name: 'tiny:latest', size: 200, context_length: 512 }])
  const unknown = () => Promise.reject(new UnknownModelError('nobody holds "huge"'))
  node.manifest = unknown
  node.load = unknown
  for (const asking of [
    client.show({ model: 'huge' }),
    client.chat({ model: 'huge', messages: [] }),
    client.generate({ model: 'huge', prompt: '' })
  ]) {
    await expect(asking).rejects.toMatchObject({ status_code: 404, error: 'nobody holds "huge"' })
  }
})

test('what is not done is refused with what does the same', async () => {
  const { client, url } = await serve()
  for (const [asking, named] of [
    [client.pull({ model: 'x', stream: false }), 'edgeshard pull'],
    [client.delete({ model: 'x' }), 'edgeshard rm'],
    [client.copy({ source: 'x', destination: 'y' }), 'edgeshard import']
  ] as const) {
    await expect(asking).rejects.toMatchObject({ status_code: 400, error: expect.stringContaining(named) })
  }
  const unknown = await fetch(`${url}/api/blobs/x`, { method: 'POST' })
  expect([unknown.status, await unknown.json()]).toEqual([404, { error: expect.any(String) }])
})

test('what is busy says when to come again, and what nobody knows is named', async () => {
  const messages = [{ role: 'user', content: 'hi', mood: 'good' }]
  const busy = await serve(
    fakeNode(async function* () {
      yield* replay([])
      throw new BusyError('64 requests wait')
    })
  )
  const refused = await fetch(`${busy.url}/api/chat`, {
    method: 'POST',
    body: JSON.stringify({ model: 'tiny', messages })
  })
  expect([refused.status, refused.headers.get('retry-after'), await refused.json()]).toEqual([
    429,
    '1',
    { error: '64 requests wait' }
  ])
  const { url } = await serve()
  const body = JSON.stringify({ model: 'tiny', messages, frobnicate: 1, options: { num_ctx: 1, x: 1 } })
  const answer = await fetch(`${url}/api/chat`, { method: 'POST', body })
  expect(answer.headers.get('x-edgeshard-ignored')).toBe(
    'frobnicate, messages.mood, options.x, options.num_ctx'
  )
  await answer.arrayBuffer()
})

test('numbers that mean no limit, any seed, and no stop', async () => {
  const node = fakeNode()
  const { post } = await serve(node)
  const options = { num_predict: 0, seed: -1, stop: [''], num_ctx: 4096 }
  const messages = [{ role: 'user', content: 'hi' }]
  await post('/api/chat', { model: 'tiny', messages, options, stream: false })
  expect(node.asked).toEqual([{ model: 'tiny', input: { kind: 'chat', messages, split: true } }])
  const misspelt = await post('/api/chat', { model: 'tiny', messages, options: { num_predic: 5 } })
  expect(misspelt).toMatchObject({
    status: 400,
    lines: [{ error: expect.stringContaining('options.num_predic') }]
  })
})

test('a silent stream is kept alive by objects, not by empty lines', async () => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
  try {
    const over = Promise.withResolvers<void>()
    const { url } = await serve(
      fakeNode(async function* () {
        yield* replay(ANSWER.slice(0, 3))
        await over.promise
        yield* replay(ANSWER.slice(3))
      })
    )
    const body = JSON.stringify({ model: 'tiny', messages: [{ role: 'user', content: 'hi' }] })
    const response = await fetch(`${url}/api/chat`, { method: 'POST', body })
    const decoder = new TextDecoder()
    let text = ''
    const reading = (async () => {
      for await (const bytes of response.body!) text += decoder.decode(bytes as Uint8Array)
    })()
    while (text.split('\n').length < 4) {
      await vi.advanceTimersByTimeAsync(HEARTBEAT_MS)
      await new Promise(resolve => setImmediate(resolve))
    }
    over.resolve()
    await reading
    const lines = text.split('\n')
    expect(lines.pop()).toBe('')
    const pieces = lines.map(line => JSON.parse(line) as { message: { content: string } })
    expect(pieces.map(({ message }) => message.content).join('')).toBe(RESULT.text)
    expect(pieces.length).toBeGreaterThan(3)
  } finally {
    vi.useRealTimers()
  }
})

test('a client that aborts ends its answer', async () => {
  const node = fakeNode((_, signal) => endless(signal, 'x'))
  const { client } = await serve(node)
  const stream = await client.chat({
    model: 'tiny',
    messages: [{ role: 'user', content: 'hi' }],
    stream: true
  })
  const reading = (async () => {
    for await (const _ of stream) stream.abort()
  })()
  await expect(reading).rejects.toThrow('aborted')
  await expect.poll(() => node.signals[0]!.aborted, { timeout: deadlineMs(5_000) }).toBe(true)
})
