import { afterAll, beforeAll, expect, test } from 'vitest'
import type { EdgeNode } from '../../node/api.ts'
import { type HttpServer, startHttpServer } from '../../node/http/index.ts'
import { post, textOf } from '../chaos/client.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { Nodes } from '../fixtures/nodes.ts'

/** What clients ask wrongly, of a real node: refused with the field's name, and nothing of it stays. */
const nodes = new Nodes()
let node: EdgeNode
let server: HttpServer

beforeAll(async () => {
  node = await nodes.add({ memoryBytes: 64 << 20 })
  server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
})
afterAll(async () => {
  await server?.stop()
  await nodes[Symbol.asyncDispose]()
})

const messages = [{ role: 'user', content: 'What does a thermostat do?' }]
const input = { kind: 'chat', messages }
/** Texts are sent as they are: JSON has no way to say NaN or infinity, clients have. */
const CASES: [name: string, path: string, body: object | string, status: number, message: RegExp][] = [
  ['NaN', '/v1/chat/completions', '{"messages":[],"temperature":NaN}', 400, /not JSON/],
  [
    'an infinite temperature',
    '/api/generate',
    '{"input":{"kind":"raw","text":"x"},"temperature":1e999}',
    400,
    /temp/
  ],
  ['a negative temperature', '/api/generate', { input, temperature: -0.1 }, 400, /temperature/],
  ['a nucleus below nothing', '/api/generate', { input, topP: -0.1 }, 400, /topP/],
  ['a negative seed', '/api/generate', { input, seed: -1 }, 400, /seed is -1/],
  ['half a seed', '/v1/chat/completions', { messages, seed: 0.5 }, 400, /seed: give a whole number/],
  ['no new tokens', '/api/generate', { input, maxTokens: 0 }, 400, /maxTokens/],
  ['more tokens than integers', '/api/generate', { input, maxTokens: 1e300 }, 400, /maxTokens/],
  ['log-probabilities of all', '/api/generate', { input, topLogprobs: 1e6 }, 400, /topLogprobs/],
  ['an empty stop string', '/api/generate', { input, stop: [''] }, 400, /stop/],
  ['a stop string of a book', '/api/generate', { input, stop: ['x'.repeat(1e5)] }, 400, /stop/],
  ['an unknown objective', '/api/generate', { input, objective: 'fame' }, 400, /objective/],
  ['an unknown model', '/api/generate', { input, model: 'huge' }, 404, /huge.*edgeshard-tiny/],
  ['an unknown model', '/v1/chat/completions', { messages, model: '../../etc/passwd' }, 404, /passwd/],
  ['more than the context', '/v1/completions', { prompt: 'word '.repeat(2000) }, 400, /\d{4} tokens.*512/],
  ['a prompt of megabytes', '/v1/completions', { prompt: 'word '.repeat(1e6) }, 400, /prompt|text/],
  ['one endless word', '/v1/completions', { prompt: 'x'.repeat(5 << 20) }, 400, /prompt|text/],
  [
    'lone surrogates',
    '/v1/completions',
    '{"prompt":"\\ud800\\udc00\\ud800","max_tokens":-2}',
    400,
    /max_tokens/
  ],
  ['more than may be sent', '/v1/completions', { prompt: 'x'.repeat(9 << 20) }, 413, /bytes/],
  [
    'thousands of messages',
    '/v1/chat/completions',
    { messages: Array(5000).fill(messages[0]) },
    400,
    /messages/
  ],
  [
    'a conversation too long',
    '/v1/chat/completions',
    { messages: Array(400).fill(messages[0]) },
    400,
    /\d{4} tokens/
  ]
]

test.each(CASES)('%s at %s', async (_, path, body, status, message) => {
  const { status: found, text } = await ask(path, body)
  expect({ status: found, text: text.slice(0, 500) }).toMatchObject({ status })
  expect((JSON.parse(text) as { error: { message: string } }).error.message).toMatch(message)
})

test('after all of them nothing is under way, and the next request is answered', async () => {
  const metrics = async () => (await fetch(`${server.url}/metrics`)).text()
  await expect.poll(metrics).toContain('edgeshard_answers_active 0\n')
  // A model is placed while a prompt is read: where that is refused what was placed for it is given back behind the refusal.
  const held = () => {
    const { leases, self } = node.mesh()
    return [leases.length, self.memory.budgetBytes - self.memory.freeBytes]
  }
  await expect.poll(held, { timeout: deadlineMs(5000) }).toEqual([0, 0])
  const { status, text } = await ask('/v1/chat/completions', { messages, max_tokens: 4, temperature: 0 })
  expect(status).toBe(200)
  expect(JSON.parse(text)).toMatchObject({ usage: { completion_tokens: 4 } })
})

async function ask(path: string, body: object | string): Promise<{ status: number; text: string }> {
  const response = await post({ port: Number(new URL(server.url).port) }, path, body)
  return { status: response.statusCode!, text: await textOf(response) }
}
