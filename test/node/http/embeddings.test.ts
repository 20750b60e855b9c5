import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { afterEach, describe, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { fakeNode } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve() {
  const node = fakeNode()
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  servers.push(server)
  const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
  const post = async (path: string, body: object) => {
    const answer = await fetch(`${server.url}${path}`, { method: 'POST', body: JSON.stringify(body) })
    return { status: answer.status, headers: answer.headers, body: (await answer.json()) as Answer }
  }
  return { node, openai, ollama: new Ollama({ host: server.url }), post }
}

interface Answer {
  data: { embedding: number[] | string; index: number }[]
  error: { message: string; param: string | null } | string
}

const VECTOR = [0.6, 0.8].map(Math.fround)
const OTHER = [0.6, -0.8].map(Math.fround)

describe('/v1/embeddings', () => {
  test.each([
    ['a text', 'one', [{ kind: 'raw', text: 'one' }]],
    [
      'texts',
      ['one', ''],
      [
        { kind: 'raw', text: 'one' },
        { kind: 'raw', text: '' }
      ]
    ],
    ['token ids', [5, 6], [{ kind: 'ids', ids: [5, 6] }]],
    [
      'lists of token ids',
      [[5], [6, 7]],
      [
        { kind: 'ids', ids: [5] },
        { kind: 'ids', ids: [6, 7] }
      ]
    ]
  ])('OpenAI’s client gets a vector for each of %s', async (_, input, inputs) => {
    const { node, openai } = await serve()
    const { data, response } = await openai.embeddings.create({ model: 'tiny', input }).withResponse()
    expect(node.embedded).toEqual([{ model: 'tiny', inputs }])
    const vectors = inputs.map((_, i) => (i === 0 ? VECTOR : OTHER))
    expect(data.data.map(({ embedding }) => embedding)).toEqual(vectors)
    expect(data).toMatchObject({ object: 'list', model: 'tiny', usage: { prompt_tokens: 3 * inputs.length } })
    expect(response.headers.get('x-edgeshard-pooling')).toBe('mean;by=default')
    expect(response.headers.get('x-request-id')).toBe(node.requestIds[0])
  })

  test('numbers, or the float32 of base64', async () => {
    const { post } = await serve()
    const asked = { model: 'tiny', input: 'one' }
    const numbers = await post('/v1/embeddings', { ...asked, encoding_format: 'float' })
    expect(numbers.body.data[0]!.embedding).toEqual(VECTOR)
    const { body } = await post('/embeddings', { ...asked, encoding_format: 'base64' })
    const bytes = Buffer.from(body.data[0]!.embedding as string, 'base64')
    expect([bytes.readFloatLE(0), bytes.readFloatLE(4)]).toEqual(VECTOR)
  })

  test('what the mesh is to do comes with it, and what nobody knows is named', async () => {
    const { node, post } = await serve()
    const mesh = { privacy: 'sealed', objective: 'throughput', exact: true } as const
    const { headers } = await post('/v1/embeddings', { input: 'one', dimensions: 64, ...mesh, frobnicate: 1 })
    expect(node.embedded).toEqual([{ inputs: [{ kind: 'raw', text: 'one' }], dimensions: 64, ...mesh }])
    expect(headers.get('x-edgeshard-ignored')).toBe('frobnicate')
  })

  test.each([
    [{ input: [] }, 'input'],
    [{ input: [[]] }, 'input.0'],
    [{}, 'input'],
    [{ input: 'x', encoding_format: 'int8' }, 'encoding_format'],
    [{ input: 'x', dimension: 3 }, 'dimension'],
    [{ input: 'x', input_type: 'query' }, 'input_type'],
    [{ input: 'x', normalize: false }, 'normalize']
  ])('%j is refused', async (body, param) => {
    const { node, post } = await serve()
    const answer = await post('/v1/embeddings', { model: 'tiny', ...body })
    expect([answer.status, answer.body.error]).toEqual([400, expect.objectContaining({ param })])
    expect(node.embedded).toEqual([])
  })

  test('a client that goes away ends it', async () => {
    const { node, openai } = await serve()
    const begun = Promise.withResolvers<void>()
    node.embed = (_, { signal } = {}) => {
      begun.resolve()
      return new Promise((_, reject) => {
        signal!.addEventListener('abort', () => reject(signal!.reason))
        node.signals.push(signal!)
      })
    }
    const abort = new AbortController()
    const asked = openai.embeddings.create({ model: 'tiny', input: 'x' }, { signal: abort.signal })
    const failed = expect(asked).rejects.toThrow('aborted')
    await begun.promise
    abort.abort()
    await failed
    await expect.poll(() => node.signals[0]!.aborted).toBe(true)
  })
})

describe('Ollama’s', () => {
  test('client gets vectors', async () => {
    const { node, ollama } = await serve()
    const answer = await ollama.embed({ model: 'tiny:latest', input: ['a', 'b'], keep_alive: '5m' })
    expect(answer).toMatchObject({ model: 'tiny:latest', embeddings: [VECTOR, OTHER], prompt_eval_count: 6 })
    const inputs = [
      { kind: 'raw', text: 'a' },
      { kind: 'raw', text: 'b' }
    ]
    expect(node.embedded).toEqual([{ model: 'tiny', inputs, truncate: true, keepAliveMs: 300_000 }])
  })

  test('older form gives one', async () => {
    const { node, ollama } = await serve()
    expect(await ollama.embeddings({ model: 'tiny', prompt: 'a' })).toEqual({ embedding: VECTOR })
    expect(node.embedded[0]).toMatchObject({ inputs: [{ kind: 'raw', text: 'a' }], truncate: true })
  })

  test('options are named, and what is wrong is refused in its form', async () => {
    const { node, post } = await serve()
    const asked = { model: 'tiny', input: 'a', truncate: false, options: { num_ctx: 8 } }
    const { headers } = await post('/api/embed', asked)
    expect(headers.get('x-edgeshard-ignored')).toBe('options.num_ctx')
    expect(node.embedded[0]).toMatchObject({ truncate: false })
    const { status, body } = await post('/api/embed', { model: 'tiny', input: 5 })
    expect([status, body.error]).toEqual([400, expect.stringContaining('input')])
  })
})
