import { afterEach, expect, test } from 'vitest'
import { StageLostError, UnknownModelError } from '../../../node/errors.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { ANSWER, type FakeNode, fakeNode, RESULT, replay } from './fake-node.ts'

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
  return { url: server.url, post }
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
      input: { kind: 'chat', messages },
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
    { model: 'tiny', input: { kind: 'chat', messages: [{ role: 'system', content: 's' }, messages[0]] } },
    { model: 'tiny', input: { kind: 'raw', text: 'Once' } }
  ])
})

test('a request without a prompt only asks whether the model is there', async () => {
  const node = fakeNode()
  const { post } = await serve(node)
  expect((await post('/api/generate', { model: 'tiny' })).lines).toMatchObject([
    { done: true, done_reason: 'load' }
  ])
  expect((await post('/api/chat', { model: 'tiny', messages: [] })).lines).toMatchObject([{ done: true }])
  expect(node.asked).toEqual([])
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
  expect(node.kept).toEqual([
    ['tiny', 0],
    ['tiny', 3_600_000]
  ])
  const odd = await post('/api/chat', { model: 'tiny', messages, keep_alive: 'soon' })
  expect(odd).toMatchObject({ status: 400, lines: [{ error: expect.stringMatching(/^keep_alive: give/) }] })
})

test('/api/tags and /api/version', async () => {
  const { url } = await serve()
  const { models } = (await (await fetch(`${url}/api/tags`)).json()) as { models: object[] }
  expect(models).toMatchObject([{ name: 'tiny', model: 'tiny', size: 1000, details: { family: 'llama' } }])
  expect(await (await fetch(`${url}/api/version`)).json()).toEqual({
    version: expect.stringMatching(/^\d+\.\d+\.\d+/)
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
  const tools = await post('/api/chat', { model: 'tiny', messages, tools: [{}] })
  expect(tools).toMatchObject({ status: 400, lines: [{ error: 'tools: tools are not supported' }] })
  const hot = await post('/api/generate', { model: 'tiny', prompt: 'x', options: { temperature: -1 } })
  expect(hot.status).toBe(400)
})
