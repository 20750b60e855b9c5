import OpenAI from 'openai'
import { afterEach, describe, expect, test } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
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
