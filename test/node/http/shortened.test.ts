import { afterEach, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { ANSWER, fakeNode, RESULT, replay } from './fake-node.ts'

/** An answer that the context or the mesh's memory has cut: each API says so in its own words. */

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

const messages = [{ role: 'user', content: 'hi' }]
const CUT = [
  ...ANSWER.slice(0, -1),
  { type: 'done' as const, result: { ...RESULT, finishReason: 'length' as const } }
]

test.each([
  ['/v1/chat/completions', { messages, max_tokens: 9000 }, '"finish_reason":"length"'],
  ['/v1/completions', { prompt: 'hi', max_tokens: 9000 }, '"finish_reason":"length"'],
  ['/v1/responses', { input: 'hi', max_output_tokens: 9000 }, '"status":"incomplete"'],
  ['/v1/messages', { messages, max_tokens: 9000 }, '"stop_reason":"max_tokens"'],
  ['/api/chat', { messages, options: { num_predict: 9000 } }, '"done_reason":"length"'],
  ['/api/generate', { prompt: 'hi', options: { num_predict: 9000 } }, '"done_reason":"length"']
])('%s', async (path, body, said) => {
  const node = fakeNode(() => replay(CUT))
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  servers.push(server)
  for (const stream of [false, true]) {
    const response = await fetch(`${server.url}${path}`, {
      method: 'POST',
      body: JSON.stringify({ model: 'tiny', stream, ...body })
    })
    expect(response.status).toBe(200)
    expect(await response.text()).toContain(said)
  }
  // No door makes it shorter itself.
  expect(node.asked.map(({ maxTokens }) => maxTokens)).toEqual([9000, 9000])
})
