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
    '/v1/chat/completions',
    {
      model: 'tiny',
      messages: [
        { role: 'user', content: 'x' },
        {
          role: 'assistant',
          content: null,
          reasoning_content: 'y',
          tool_calls: [{ id: 'c', type: 'function', function: { name: 'f', arguments: '{}' } }]
        },
        { role: 'tool', content: 'z', tool_call_id: 'c' }
      ],
      tools: [
        { type: 'function', function: { name: 'f', description: 'd', parameters: { type: 'object' } } }
      ],
      tool_choice: 'auto',
      parallel_tool_calls: true,
      reasoning_effort: 'low',
      chat_template_kwargs: { a: 1 }
    }
  ],
  [
    '/v1/messages',
    {
      model: 'tiny',
      max_tokens: 5,
      system: [{ type: 'text', text: 's' }],
      messages: [
        { role: 'user', content: 'x' },
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 'y', signature: '' },
            { type: 'tool_use', id: 'c', name: 'f', input: { a: 1 } }
          ]
        },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'c', content: 'z', is_error: false }] }
      ],
      tools: [{ name: 'f', description: 'd', input_schema: { type: 'object' } }],
      tool_choice: { type: 'auto', disable_parallel_tool_use: true },
      thinking: { type: 'enabled', budget_tokens: 5 },
      stop_sequences: ['q'],
      metadata: { user_id: 'u' }
    }
  ],
  [
    '/v1/responses',
    {
      model: 'tiny',
      instructions: 'i',
      input: [
        { role: 'user', content: [{ type: 'input_text', text: 'x' }] },
        { type: 'reasoning', summary: [], content: [{ type: 'reasoning_text', text: 'y' }] },
        { type: 'function_call', call_id: 'c', name: 'f', arguments: '{}' },
        { type: 'function_call_output', call_id: 'c', output: 'z' }
      ],
      tools: [{ type: 'function', name: 'f', parameters: { type: 'object' }, strict: true }],
      reasoning: { effort: 'low' },
      text: { format: { type: 'text' } },
      max_output_tokens: 5
    }
  ],
  [
    '/api/chat',
    {
      model: 'tiny',
      stream: false,
      messages: [
        { role: 'user', content: 'x' },
        { role: 'assistant', content: '', tool_calls: [{ function: { name: 'f', arguments: { a: 1 } } }] },
        { role: 'tool', content: 'z', tool_name: 'f' }
      ],
      tools: [{ type: 'function', function: { name: 'f', parameters: { type: 'object' } } }],
      think: 'low',
      keep_alive: '5m',
      options: { temperature: 0.5, num_predict: 5, stop: ['a'], seed: 1, num_ctx: 512 }
    }
  ],
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
  expect(counts.get(200)).toBeGreaterThan(CASES / 20)
  expect(counts.get(400)).toBeGreaterThan(CASES / 3)
})
