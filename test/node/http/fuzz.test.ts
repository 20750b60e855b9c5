import { afterAll, beforeAll, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { type JsonTree, mutate } from '../../fixtures/mutate.ts'
import { prng } from '../../fixtures/prng.ts'
import { fakeNode } from './fake-node.ts'

const CASES = 2_000
const SHARED = {
  model: 'tiny',
  temperature: 0.5,
  top_p: 0.9,
  seed: 1,
  stop: ['a', 'b'],
  max_tokens: 5,
  n: 1,
  stream: false,
  stream_options: { include_usage: true }
}
const REQUESTS: [path: string, body: object][] = [
  [
    '/v1/chat/completions',
    {
      ...SHARED,
      messages: [
        { role: 'system', content: 'x' },
        { role: 'user', content: [{ type: 'text', text: 'y' }] }
      ],
      logprobs: true,
      top_logprobs: 2
    }
  ],
  ['/v1/completions', { ...SHARED, prompt: ['x'], logprobs: 1, echo: false }],
  [
    '/api/generate',
    {
      model: 'tiny',
      input: { kind: 'chat', messages: [{ role: 'user', content: 'x' }] },
      maxTokens: 3,
      topP: 0.5,
      stop: ['a'],
      privacy: 'sealed'
    }
  ]
]

let server: HttpServer
beforeAll(async () => {
  server = await startHttpServer({ node: fakeNode(), host: '127.0.0.1', port: 0 })
})
afterAll(() => server.stop())

test('requests with mistakes are refused as such or answered, never a failure of the server', {
  timeout: deadlineMs(120_000)
}, async () => {
  const random = prng(5)
  const counts = new Map<number, number>()
  const ask = async (i: number) => {
    const [path, valid] = REQUESTS[i % REQUESTS.length]!
    const tree = structuredClone({ body: valid }) as JsonTree
    for (let round = 0; round <= random() * 3; round++) mutate(tree, random)
    const text = JSON.stringify(tree.body) ?? ''
    const body = random() < 0.1 ? text.slice(0, Math.floor(random() * text.length)) : text
    const response = await fetch(`${server.url}${path}`, { method: 'POST', body })
    const answer = await response.text()
    counts.set(response.status, (counts.get(response.status) ?? 0) + 1)
    if (response.status !== 200 && response.status !== 400)
      throw new Error(`${response.status} for ${body}: ${answer}`)
    if (response.status === 400) expect(JSON.parse(answer)).toHaveProperty('error')
  }
  for (let i = 0; i < CASES; i += 16) await Promise.all(Array.from({ length: 16 }, (_, k) => ask(i + k)))
  process.stdout.write(`requests: ${JSON.stringify(Object.fromEntries(counts))}\n`)
  expect(counts.get(200)).toBeGreaterThan(CASES / 10)
  expect(counts.get(400)).toBeGreaterThan(CASES / 3)
})
