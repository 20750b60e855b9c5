import OpenAI from 'openai'
import { afterEach, describe, expect, test } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { StageLostError } from '../../../node/errors.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { ANSWER, CALLING, type FakeNode, fakeNode, RESULT, replay } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(node: FakeNode = fakeNode()) {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  servers.push(server)
  const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
  return { client, url: server.url, node }
}

const WEATHER = {
  type: 'function' as const,
  name: 'weather',
  description: 'How it is outside',
  parameters: { type: 'object', properties: { city: { type: 'string' } } },
  strict: true
}

test('a whole answer', async () => {
  const { client, node } = await serve()
  const answer = await client.responses.create({
    model: 'tiny',
    instructions: 'Be brief.',
    input: 'hi',
    max_output_tokens: 9,
    temperature: 0,
    store: false,
    reasoning: { effort: 'low' }
  })
  expect(answer).toMatchObject({
    object: 'response',
    status: 'completed',
    model: 'tiny',
    output_text: RESULT.text,
    output: [{ type: 'message', role: 'assistant', content: [{ type: 'output_text', text: RESULT.text }] }],
    usage: { input_tokens: 4, output_tokens: 3, total_tokens: 7 }
  })
  expect(node.asked).toEqual([
    {
      model: 'tiny',
      input: {
        kind: 'chat',
        messages: [
          { role: 'system', content: 'Be brief.' },
          { role: 'user', content: 'hi' }
        ],
        thinking: 'low',
        split: true
      },
      maxTokens: 9,
      temperature: 0
    }
  ])
})

test('thoughts and calls, whole and streamed, are the same', async () => {
  const { client } = await serve(fakeNode(() => replay(CALLING)))
  const asked = { model: 'tiny', input: 'Rome?', tools: [WEATHER] }
  const output = [
    { type: 'reasoning', content: [{ type: 'reasoning_text', text: 'Which city?' }] },
    { type: 'message', content: [{ type: 'output_text', text: 'I look.' }] },
    { type: 'function_call', call_id: 'call_1', name: 'weather', arguments: '{"city":"Rome"}' },
    { type: 'function_call', call_id: 'call_2', name: 'clock', arguments: '{}' }
  ]
  expect(await client.responses.create(asked)).toMatchObject({ status: 'completed', output })
  const stream = client.responses.stream(asked)
  const events: { type: string; sequence_number: number }[] = []
  let argumentsText = ''
  for await (const event of stream) {
    events.push(event)
    if (event.type === 'response.function_call_arguments.delta') argumentsText += event.delta
  }
  expect(await stream.finalResponse()).toMatchObject({ status: 'completed', output })
  expect(argumentsText).toBe('{"city":"Rome"}{}')
  expect(events.map(event => event.sequence_number)).toEqual(events.map((_, i) => i))
  expect(events.map(({ type }) => type.replace('response.', ''))).toEqual([
    ...['created', 'in_progress'],
    ...['output_item.added', 'content_part.added', 'reasoning_text.delta', 'reasoning_text.done'],
    ...['content_part.done', 'output_item.done'],
    ...['output_item.added', 'content_part.added', 'output_text.delta', 'output_text.done'],
    ...['content_part.done', 'output_item.done'],
    ...['output_item.added', 'function_call_arguments.delta', 'function_call_arguments.delta'],
    ...['function_call_arguments.done', 'output_item.done'],
    ...[
      'output_item.added',
      'function_call_arguments.delta',
      'function_call_arguments.done',
      'output_item.done'
    ],
    'completed'
  ])
})

test('what had begun as a call and is none is text, and no call', async () => {
  const broken: GenerateEvent[] = [
    { type: 'call', index: 0, id: 'c', name: 'weather' },
    { type: 'arguments', index: 0, text: '{"ci' },
    { type: 'text', text: '<tool_call>{"ci', tokens: [1], logprobs: [] },
    { type: 'done', result: { ...RESULT, finishReason: 'length' } }
  ]
  const { client } = await serve(fakeNode(() => replay(broken)))
  const asked = { model: 'tiny', input: 'Rome?', tools: [WEATHER] }
  const expected = {
    status: 'incomplete',
    incomplete_details: { reason: 'max_output_tokens' },
    output: [{ type: 'message', content: [{ text: '<tool_call>{"ci' }] }]
  }
  expect(await client.responses.create(asked)).toMatchObject(expected)
  const stream = await client.responses.create({ ...asked, stream: true })
  let last: object | undefined
  for await (const event of stream) if ('response' in event) last = event.response
  expect(last).toMatchObject(expected)
})

test('a conversation of items becomes turns', async () => {
  const { client, node } = await serve()
  await client.responses.create({
    model: 'tiny',
    input: [
      { role: 'developer', content: 'Be brief.' },
      { role: 'user', content: [{ type: 'input_text', text: 'Rome?' }] },
      { type: 'reasoning', id: 'rs_1', summary: [], content: [{ type: 'reasoning_text', text: 'Hm.' }] },
      {
        type: 'message',
        id: 'msg_1',
        status: 'completed',
        role: 'assistant',
        content: [{ type: 'output_text', text: 'I look.', annotations: [] }]
      },
      { type: 'function_call', call_id: 'c1', name: 'weather', arguments: '{"city":"Rome"}' },
      { type: 'function_call', call_id: 'c2', name: 'clock', arguments: '{}' },
      { type: 'function_call_output', call_id: 'c1', output: 'rain' },
      { type: 'function_call_output', call_id: 'c2', output: '12:00' }
    ]
  })
  expect(node.asked[0]!.input).toMatchObject({
    messages: [
      { role: 'developer', content: 'Be brief.' },
      { role: 'user', content: 'Rome?' },
      {
        role: 'assistant',
        content: 'I look.',
        reasoning: 'Hm.',
        toolCalls: [
          { id: 'c1', name: 'weather', arguments: '{"city":"Rome"}' },
          { id: 'c2', name: 'clock', arguments: '{}' }
        ]
      },
      { role: 'tool', content: 'rain', toolCallId: 'c1', name: 'weather' },
      { role: 'tool', content: '12:00', toolCallId: 'c2', name: 'clock' }
    ]
  })
})

test('tools of other kinds beside functions are left out and named: agents go on without them', async () => {
  const { url, node } = await serve()
  const clock = { type: 'function', name: 'clock', parameters: { type: 'object' } }
  const others = [
    { type: 'web_search', external_web_access: false },
    { type: 'namespace', name: 'agents', tools: [clock] },
    { type: 'custom', name: 'apply_patch', format: { type: 'text' } }
  ]
  const body = { model: 'tiny', input: 'hi', tools: [others[0], clock, others[1], others[2]] }
  const response = await fetch(`${url}/v1/responses`, { method: 'POST', body: JSON.stringify(body) })
  expect([response.status, response.headers.get('x-edgeshard-ignored')]).toEqual([
    200,
    'tools.web_search, tools.namespace, tools.custom'
  ])
  expect(await response.json()).toMatchObject({ tools: [{ name: 'clock' }] })
  expect(node.asked[0]!.input).toMatchObject({ tools: [{ name: 'clock' }] })
})

describe('what is refused', () => {
  test.each([
    ['previous_response_id', { previous_response_id: 'resp_1' }],
    ['background', { background: true }],
    ['truncation', { truncation: 'auto' }],
    ['tools.0.type', { tools: [{ type: 'web_search' }] }],
    [
      'tools.1.type',
      {
        tools: [
          { type: 'function', name: 'clock' },
          { type: 'functions', name: 'x' }
        ]
      }
    ],
    ['text.format.type', { text: { format: { type: 'grammar', syntax: 'lark' } } }],
    ['input', { input: [{ role: 'user', content: [{ type: 'input_image', image_url: 'x' }] }] }],
    ['max_output_token', { max_output_token: 5 }]
  ])('%s is named', async (field, fields) => {
    const { url, node } = await serve()
    const body = JSON.stringify({ model: 'tiny', input: 'hi', ...fields })
    const response = await fetch(`${url}/v1/responses`, { method: 'POST', body })
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { param: expect.stringContaining(field), message: expect.stringContaining(field) }
    })
    expect(node.asked).toEqual([])
  })

  test('a stage that is lost in the middle fails the response', async () => {
    const { client } = await serve(
      fakeNode(async function* () {
        yield* replay(ANSWER.slice(0, 3))
        throw new StageLostError('laptop died', 'peer')
      })
    )
    const stream = await client.responses.create({ model: 'tiny', input: 'hi', stream: true })
    let last: { type: string } | undefined
    for await (const event of stream) last = event
    expect(last).toMatchObject({
      type: 'response.failed',
      response: { status: 'failed', error: { message: 'laptop died' } }
    })
  })
})
