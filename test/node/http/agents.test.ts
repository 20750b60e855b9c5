import { afterEach, describe, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { CALLING, fakeNode, replay } from './fake-node.ts'

/*
 * What programs send, by the shapes of their requests (written anew, with texts of ours): each is answered, and what it
 * asks for reaches the node or is named in the answer.
 */

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

const SCHEMA = {
  $schema: 'http://json-schema.org/draft-07/schema#',
  type: 'object',
  properties: { path: { type: 'string', description: 'Which file' } },
  required: ['path'],
  additionalProperties: false
}
const FUNCTION = {
  type: 'function',
  function: { name: 'read_file', description: 'Reads a file', parameters: SCHEMA, strict: false }
}
const CALL = { id: 'call_a', type: 'function', function: { name: 'read_file', arguments: '{"path":"a.ts"}' } }
const STREAM = { stream: true, stream_options: { include_usage: true } }
const HISTORY = [
  { role: 'system', content: 'You edit code.' },
  { role: 'user', content: [{ type: 'text', text: 'What is in a.ts?' }] },
  { role: 'assistant', content: null, tool_calls: [CALL] },
  { role: 'tool', tool_call_id: 'call_a', content: 'export {}' }
]
const CHAT = '/v1/chat/completions'

const REQUESTS: [program: string, path: string, body: object, ignored: string | null][] = [
  [
    'OpenCode, by the AI SDK',
    CHAT,
    {
      ...{ model: 'tiny', max_tokens: 32_000, temperature: 0, top_p: 1, messages: HISTORY },
      ...{ tools: [FUNCTION], tool_choice: 'auto', ...STREAM }
    },
    null
  ],
  [
    'Cline',
    CHAT,
    {
      model: 'tiny',
      messages: HISTORY,
      temperature: 0,
      tools: [FUNCTION],
      tool_choice: 'auto',
      parallel_tool_calls: false,
      ...STREAM
    },
    null
  ],
  [
    'Zed',
    CHAT,
    {
      ...{ model: 'tiny', messages: HISTORY, stop: [], temperature: 1, max_completion_tokens: 4096 },
      ...{ tools: [FUNCTION], prompt_cache_key: 'thread-1', ...STREAM }
    },
    null
  ],
  [
    'Copilot with a model of one’s own',
    CHAT,
    {
      model: 'tiny',
      messages: HISTORY,
      tools: [FUNCTION],
      temperature: 0.1,
      top_p: 1,
      n: 1,
      intent: true,
      ...STREAM
    },
    'intent'
  ],
  [
    'Continue',
    CHAT,
    {
      model: 'tiny',
      messages: HISTORY,
      max_tokens: 2048,
      stream: true,
      tools: [FUNCTION],
      parallel_tool_calls: true
    },
    null
  ],
  [
    'Open WebUI',
    CHAT,
    {
      model: 'tiny',
      messages: [{ role: 'user', content: 'Hi' }],
      metadata: { task: 'title_generation' },
      ...{ max_completion_tokens: 1000, frequency_penalty: 0, presence_penalty: 0, stream: false }
    },
    null
  ],
  [
    'n8n, by LangChain',
    CHAT,
    {
      model: 'tiny',
      messages: HISTORY,
      temperature: 0.7,
      top_p: 1,
      frequency_penalty: 0,
      presence_penalty: 0,
      n: 1,
      max_tokens: -1,
      tools: [FUNCTION],
      stream: false
    },
    null
  ],
  [
    'aider',
    CHAT,
    { model: 'tiny', messages: [{ role: 'user', content: 'Hi' }], temperature: 0, stream: true },
    null
  ],
  [
    'lm-eval',
    '/v1/completions',
    { model: 'tiny', prompt: [[1, 2, 3], [4]], max_tokens: 1, temperature: 0, seed: 1234, logprobs: 1 },
    null
  ],
  [
    'Claude Code',
    '/v1/messages?beta=true',
    {
      model: 'tiny',
      system: [{ type: 'text', text: 'You edit code.', cache_control: { type: 'ephemeral' } }],
      messages: [
        {
          role: 'user',
          content: [{ type: 'text', text: 'What is in a.ts?', cache_control: { type: 'ephemeral' } }]
        },
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 'I look.', signature: 'x' },
            { type: 'tool_use', id: 'toolu_1', name: 'read_file', input: { path: 'a.ts' } }
          ]
        },
        {
          role: 'user',
          content: [
            {
              type: 'tool_result',
              tool_use_id: 'toolu_1',
              content: 'export {}',
              cache_control: { type: 'ephemeral' }
            }
          ]
        }
      ],
      tools: [{ name: 'read_file', description: 'Reads a file', input_schema: SCHEMA }],
      metadata: { user_id: `{"device":"${'d'.repeat(64)}","session":"s"}` },
      max_tokens: 32_000,
      thinking: { type: 'enabled', budget_tokens: 31_999 },
      ...{ temperature: 1, stream: true, output_config: { effort: 'medium' } },
      context_management: { edits: [{ type: 'clear_thinking_20251015', keep: 'all' }] }
    },
    'thinking.budget_tokens'
  ],
  [
    'Codex',
    '/v1/responses',
    {
      model: 'tiny',
      instructions: 'You edit code.',
      input: [
        { type: 'message', role: 'developer', content: [{ type: 'input_text', text: 'Sandboxed.' }] },
        { type: 'message', role: 'user', content: [{ type: 'input_text', text: 'What is in a.ts?' }] },
        { type: 'reasoning', summary: [], content: null, encrypted_content: null },
        { type: 'function_call', call_id: 'call_a', name: 'shell', arguments: '{"command":["cat","a.ts"]}' },
        { type: 'function_call_output', call_id: 'call_a', output: 'export {}' }
      ],
      tools: [{ type: 'function', name: 'shell', description: 'Runs', strict: false, parameters: SCHEMA }],
      ...{
        tool_choice: 'auto',
        parallel_tool_calls: false,
        reasoning: { effort: 'medium', summary: 'auto' }
      },
      ...{ store: false, stream: true, include: ['reasoning.encrypted_content'], prompt_cache_key: 'c-1' },
      text: { verbosity: 'medium' }
    },
    null
  ],
  [
    'Home Assistant',
    '/v1/responses',
    {
      ...{
        model: 'tiny',
        max_output_tokens: 3000,
        user: 'u',
        store: false,
        stream: true,
        temperature: 1,
        top_p: 1
      },
      input: [
        { type: 'message', role: 'developer', content: 'You are at home.' },
        { type: 'message', role: 'user', content: 'Is the light on?' }
      ],
      tools: [{ type: 'function', name: 'light', description: 'Lights', parameters: SCHEMA, strict: false }]
    },
    null
  ],
  [
    'Home Assistant, by Ollama',
    '/api/chat',
    {
      ...{ model: 'tiny:latest', stream: true, think: false, keep_alive: '-1s', options: { num_ctx: 8192 } },
      messages: [
        { role: 'system', content: 'You are at home.' },
        { role: 'user', content: 'Is the light on?' },
        {
          role: 'assistant',
          content: '',
          tool_calls: [{ function: { name: 'light', arguments: { path: 'x' } } }]
        },
        { role: 'tool', content: '"on"', tool_name: 'light' }
      ],
      tools: [{ type: 'function', function: { name: 'light', description: 'Lights', parameters: SCHEMA } }]
    },
    'options.num_ctx'
  ],
  [
    'LangChain, by Ollama',
    '/api/chat',
    {
      model: 'tiny',
      messages: [{ role: 'user', content: 'Hi' }],
      format: '',
      options: { temperature: 0.8, top_p: 0.9, num_predict: 128, stop: ['x'], seed: 3 },
      stream: true
    },
    null
  ]
]

describe.each(REQUESTS)('%s', (_, path, body, ignored) => {
  test('is answered, and loses nothing without a word', async () => {
    const node = fakeNode(() => replay(CALLING))
    const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
    servers.push(server)
    const response = await fetch(`${server.url}${path}`, { method: 'POST', body: JSON.stringify(body) })
    const text = await response.text()
    expect([response.status, response.headers.get('x-edgeshard-ignored')], text).toEqual([200, ignored])
    const [asked] = node.asked
    const given = body as { tools?: object[]; messages?: object[]; stream?: boolean }
    if (given.tools !== undefined) expect(asked!.input).toMatchObject({ tools: [{ parameters: SCHEMA }] })
    // Calls and their results are among the turns.
    if (/call_a|toolu_1|tool_name/.test(JSON.stringify(body))) {
      expect(asked!.input).toMatchObject({
        messages: expect.arrayContaining([
          expect.objectContaining({ toolCalls: [expect.objectContaining({ name: expect.any(String) })] }),
          expect.objectContaining({ role: 'tool', toolCallId: expect.any(String), name: expect.any(String) })
        ])
      })
    }
    expect(response.headers.get('content-type')).toMatch(
      given.stream === true ? /event-stream|ndjson/ : /json/
    )
  })
})

test('schemas and arguments without end are refused', async () => {
  const server = await startHttpServer({ node: fakeNode(), host: '127.0.0.1', port: 0 })
  servers.push(server)
  const deep = `${'{"a":'.repeat(50_000)}1${'}'.repeat(50_000)}`
  const user = '{"role":"user","content":"x"}'
  for (const [path, body] of [
    [
      CHAT,
      `{"messages":[${user}],"tools":[{"type":"function","function":{"name":"f","parameters":${deep}}}]}`
    ],
    [CHAT, `{"messages":[${user}],"chat_template_kwargs":${deep}}`],
    [
      '/v1/messages',
      `{"model":"m","max_tokens":1,"messages":[${user}],"tools":[{"name":"f","input_schema":${deep}}]}`
    ],
    ['/v1/responses', `{"input":"x","tools":[{"type":"function","name":"f","parameters":${deep}}]}`],
    [
      '/api/chat',
      `{"model":"m","messages":[${user}],"tools":[{"function":{"name":"f","parameters":${deep}}}]}`
    ]
  ] as const) {
    const response = await fetch(`${server.url}${path}`, { method: 'POST', body })
    expect([path, response.status, await response.text()]).toEqual([
      path,
      400,
      expect.stringContaining('levels deep')
    ])
  }
})

test('what is wrong within one of several forms is named where it is', async () => {
  const server = await startHttpServer({ node: fakeNode(), host: '127.0.0.1', port: 0 })
  servers.push(server)
  const refusal = async (path: string, body: object) => {
    const response = await fetch(`${server.url}${path}`, {
      method: 'POST',
      body: JSON.stringify({ model: 'tiny', ...body })
    })
    const { error } = (await response.json()) as { error: { message: string } }
    return [response.status, error.message]
  }
  const image = { type: 'image_url', image_url: { url: 'x' } }
  expect(await refusal(CHAT, { messages: [{ role: 'user', content: [image] }] })).toEqual([
    400,
    'messages.0.content.0.type: only text parts are understood'
  ])
  const item = { role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }
  expect(await refusal('/v1/responses', { input: [item] })).toEqual([
    400,
    'input.0.content.0.type: only text parts are understood'
  ])
})
