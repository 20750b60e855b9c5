import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import { ModelStore } from '../../models/store/store.ts'
import { type HttpServer, startHttpServer } from '../../node/http/index.ts'
import { createNode, type EdgeNode } from '../../node/index.ts'
import { joinMesh } from '../../node/mesh/join.ts'
import { decodeTicket } from '../../node/mesh/ticket.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { hasSharedData, sharedData } from '../fixtures/shared-data.ts'

/** Neither of the two can hold the model with its KV cache, together they can. */
const MEMORY_BYTES = 1_200_000

/** What each list of tokens comes to on one device with room for the whole model. */
async function pooledAlone(storeDir: string, prompts: number[][]): Promise<Float32Array[]> {
  const store = await ModelStore.open(storeDir)
  const { manifest } = await store.resolve('tiny')
  const runtime = await startRuntime({ threads: 1 })
  const shard = await runtime.load({ manifest, range: [0, manifest.layers.length], blobsDir: store.blobsDir })
  const vectors: Float32Array[] = []
  for (const ids of prompts) {
    const session = await shard.open({ maxTokens: 64, pooling: 'mean' })
    const output = await session.forward({ position: 0, input: Int32Array.from(ids), sample: true })
    if (output.kind === 'pooled') vectors.push(output.pooled)
    await session.close()
  }
  await runtime.stop()
  return vectors
}

function distance(a: number[], b: Float32Array): number {
  expect(a).toHaveLength(b.length)
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0)
}

/** Two nodes, and the HTTP server of the one that holds the model. */
describe.skipIf(!hasSharedData)('HTTP of a node whose model spans two devices', () => {
  let dir: string
  let source: EdgeNode
  let peer: EdgeNode
  let server: HttpServer
  let client: OpenAI

  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'edgeshard-http-'))
    const home = (name: string) => join(dir, name)
    const store = await ModelStore.open(join(home('source'), 'store'))
    await importModel(sharedData('stories260k/hf'), store, { name: 'tiny' })
    const options = { mdns: false, bundled: false, port: 0, memoryBytes: MEMORY_BYTES, threads: 1 }
    source = await createNode({ ...options, home: home('source'), name: 'source' })

    await joinMesh(home('peer'), decodeTicket(await source.invite()))
    peer = await createNode({ ...options, home: home('peer'), name: 'peer' })
    await vi.waitUntil(() => source.mesh().peers.some(({ connected }) => connected), {
      timeout: deadlineMs(10_000)
    })
    server = await startHttpServer({ node: source, host: '127.0.0.1', port: 0 })
    client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
  })
  afterAll(async () => {
    await server?.stop()
    await Promise.all([source?.stop(), peer?.stop()])
    await rm(dir, { recursive: true, force: true })
  })

  const sessions = () =>
    [source, peer].flatMap(node => node.mesh().leases).reduce((sum, lease) => sum + lease.sessions, 0)
  const prompt = { model: 'tiny', prompt: 'Once upon a time' }

  test('OpenAI’s client gets the same tokens whole and streamed, greedy and seeded', async () => {
    for (const sampling of [{ temperature: 0 }, { temperature: 0.8, top_p: 0.9, seed: 5 }]) {
      const whole = await client.completions.create({ ...prompt, max_tokens: 24, ...sampling })
      const stages = (whole as unknown as { edgeshard: { plan: { stages: { name: string }[] } } }).edgeshard
        .plan.stages
      expect(stages.map(({ name }) => name)).toContain('peer')
      const stream = await client.completions.create({ ...prompt, max_tokens: 24, ...sampling, stream: true })
      let text = ''
      for await (const chunk of stream) text += chunk.choices[0]!.text
      expect(text).toBe(whole.choices[0]!.text)
      expect(whole.usage).toMatchObject({ prompt_tokens: 5, completion_tokens: 24 })
    }
  })

  test('a stop string ends the answer and is not shown', async () => {
    const answer = await client.completions.create({
      ...prompt,
      max_tokens: 60,
      temperature: 0,
      stop: [' Lily']
    })
    expect(answer.choices[0]).toMatchObject({
      text: ', there was a little girl named',
      finish_reason: 'stop'
    })
  })

  test('log-probabilities are the reference’s', async () => {
    const answer = await client.completions.create({ ...prompt, max_tokens: 2, temperature: 0, logprobs: 2 })
    const { tokens, token_logprobs: logprobs, top_logprobs: top } = answer.choices[0]!.logprobs!
    expect(tokens).toEqual([',', ' there'])
    expect(logprobs![0]).toBeCloseTo(-0.0317, 3)
    expect(Object.keys(top![0]!)).toHaveLength(2)
  })

  test('a prompt longer than the context is refused with both numbers', async () => {
    const long = client.completions.create({ ...prompt, prompt: 'word '.repeat(2000) })
    await expect(long).rejects.toMatchObject({
      status: 400,
      message: expect.stringMatching(/\d{4} tokens.*512/),
      param: 'prompt'
    })
  })

  test('an unknown model is refused with those that there are', async () => {
    const unknown = client.completions.create({ ...prompt, model: 'huge' })
    await expect(unknown).rejects.toMatchObject({ status: 404, message: expect.stringContaining('tiny') })
  })

  test('clients that go away free their sessions on every device', async () => {
    for (let i = 0; i < 5; i++) {
      const stream = await client.completions.create({
        ...prompt,
        max_tokens: 400,
        temperature: 0,
        stream: true
      })
      for await (const _ of stream) break
      stream.controller.abort()
    }
    const abort = new AbortController()
    const whole = client.completions.create({ ...prompt, max_tokens: 400 }, { signal: abort.signal })
    await expect.poll(sessions).toBeGreaterThan(0)
    abort.abort()
    await expect(whole).rejects.toThrow('aborted')
    await expect.poll(sessions).toBe(0)
  })

  test('a client that disconnects without a word frees its session too', async () => {
    const { hostname, port, host } = new URL(server.url)
    const socket = connect(Number(port), hostname)
    const body = JSON.stringify({ ...prompt, max_tokens: 400, stream: true })
    socket.write(
      `POST /v1/completions HTTP/1.1\r\nHost: ${host}\r\nContent-Length: ${body.length}\r\n\r\n${body}`
    )
    await new Promise(resolve => socket.once('data', resolve))
    socket.resetAndDestroy()
    await expect.poll(sessions).toBe(0)
  })

  test('embeddings over two devices are those that one computes, as numbers and as base64', async () => {
    const input = ['Once upon a time there was a little girl named Lily.', 'The end']
    const { data, usage } = await client.embeddings.create({ model: 'tiny', input })
    const ids = await Promise.all(input.map(text => source.tokenize(text)))
    const expected = await pooledAlone(join(dir, 'source', 'store'), ids)
    data.forEach(({ embedding }, i) => {
      expect(distance(embedding, expected[i]!)).toBeLessThan(1e-5)
    })
    expect(usage.prompt_tokens).toBe(ids.flat().length)
    for (const asked of [{ encoding_format: 'float' as const }, { privacy: 'sealed' }]) {
      const again = await client.embeddings.create({ model: 'tiny', input: ids, ...asked })
      again.data.forEach(({ embedding }, i) => {
        expect(distance(embedding, expected[i]!)).toBeLessThan(1e-5)
      })
    }
    await expect.poll(sessions).toBe(0)
  })

  test('many at once all get the same answer', async () => {
    const answers = await Promise.all(
      Array.from({ length: 8 }, () =>
        client.completions.create({ ...prompt, max_tokens: 16, temperature: 0 })
      )
    )
    expect(new Set(answers.map(answer => answer.choices[0]!.text)).size).toBe(1)
    await expect.poll(sessions).toBe(0)
  })
})
