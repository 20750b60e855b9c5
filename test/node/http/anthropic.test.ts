import Anthropic from '@anthropic-ai/sdk'
import { afterEach, describe, expect, test } from 'vitest'
import type { GenerateEvent } from '../../../node/api.ts'
import { StageLostError, UnknownModelError } from '../../../node/errors.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { ANSWER, CALLING, endless, type FakeNode, fakeNode, RESULT, replay } from './fake-node.ts'

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(node: FakeNode = fakeNode(), apiKey?: string) {
  const server = await startHttpServer({
    node,
    host: '127.0.0.1',
    port: 0,
    ...(apiKey !== undefined && { apiKey })
  })
  servers.push(server)
  const client = new Anthropic({ baseURL: server.url, apiKey: apiKey ?? 'none', maxRetries: 0 })
  return { client, url: server.url, node }
}

const question = {
  model: 'tiny',
  max_tokens: 9,
  messages: [{ role: 'user' as const, content: 'hi' }]
}
const WEATHER = {
  name: 'weather',
  description: 'How it is outside',
  input_schema: { type: 'object' as const, properties: { city: { type: 'string' } } }
}

describe('messages', () => {
  test('a whole answer', async () => {
    const { client, node } = await serve()
    const answer = await client.messages.create({
      ...question,
      system: [{ type: 'text', text: 'Be brief.', cache_control: { type: 'ephemeral' } }],
      stop_sequences: ['x'],
      metadata: { user_id: 'u' },
      thinking: { type: 'disabled' },
      // The client's types have them no more.
      ...{ temperature: 0, top_p: 0.5 }
    })
    expect(answer).toMatchObject({
      type: 'message',
      role: 'assistant',
      model: 'tiny',
      content: [{ type: 'text', text: RESULT.text }],
      stop_reason: 'end_turn',
      stop_sequence: null,
      usage: { input_tokens: 4, output_tokens: 3, cache_read_input_tokens: 0 }
    })
    expect(answer.id).toMatch(/^msg_/)
    expect(node.asked).toEqual([
      {
        model: 'tiny',
        input: {
          kind: 'chat',
          messages: [
            { role: 'system', content: 'Be brief.' },
            { role: 'user', content: 'hi' }
          ],
          thinking: false,
          split: true
        },
        maxTokens: 9,
        temperature: 0,
        topP: 0.5,
        stop: ['x'],
        conversation: 'u'
      }
    ])
  })

  test('a streamed answer', async () => {
    const { client } = await serve()
    const stream = client.messages.stream(question)
    let text = ''
    stream.on('text', piece => {
      text += piece
    })
    const message = await stream.finalMessage()
    expect(text).toBe(RESULT.text)
    expect(message).toMatchObject({
      content: [{ type: 'text', text: RESULT.text }],
      stop_reason: 'end_turn',
      usage: { input_tokens: 4, output_tokens: 3 }
    })
  })

  test('thoughts and calls of tools, whole and streamed, are the same', async () => {
    const { client, node } = await serve(fakeNode(() => replay(CALLING)))
    const asked = { ...question, tools: [WEATHER], tool_choice: { type: 'auto' as const } }
    const expected = {
      content: [
        { type: 'thinking', thinking: 'Which city?' },
        { type: 'text', text: 'I look.' },
        { type: 'tool_use', id: 'call_1', name: 'weather', input: { city: 'Rome' } },
        { type: 'tool_use', id: 'call_2', name: 'clock', input: {} }
      ],
      stop_reason: 'tool_use'
    }
    expect(await client.messages.create(asked)).toMatchObject(expected)
    const stream = client.messages.stream(asked)
    const pieces: string[] = []
    stream.on('inputJson', piece => pieces.push(piece))
    expect(await stream.finalMessage()).toMatchObject(expected)
    expect(pieces).toEqual(['{"city":', '"Rome"}', '{}'])
    expect(node.asked[0]!.input).toMatchObject({
      tools: [{ name: 'weather', description: 'How it is outside', parameters: WEATHER.input_schema }]
    })
  })

  test('a conversation with calls and results', async () => {
    const { client, node } = await serve()
    await client.messages.create({
      ...question,
      messages: [
        { role: 'user', content: 'Rome?' },
        {
          role: 'assistant',
          content: [
            { type: 'thinking', thinking: 'Hm.', signature: '' },
            { type: 'text', text: 'I look.' },
            { type: 'tool_use', id: 'c1', name: 'weather', input: { city: 'Rome' } }
          ]
        },
        {
          role: 'user',
          content: [
            { type: 'tool_result', tool_use_id: 'c1', content: [{ type: 'text', text: 'rain' }] },
            { type: 'tool_result', tool_use_id: 'c2', content: 'gone', is_error: true },
            { type: 'text', text: 'And?' }
          ]
        }
      ],
      tools: [WEATHER],
      tool_choice: { type: 'none' }
    })
    expect(node.asked[0]!.input).toEqual({
      kind: 'chat',
      messages: [
        { role: 'user', content: 'Rome?' },
        {
          role: 'assistant',
          content: 'I look.',
          reasoning: 'Hm.',
          toolCalls: [{ id: 'c1', name: 'weather', arguments: '{"city":"Rome"}' }]
        },
        { role: 'tool', content: 'rain', toolCallId: 'c1', name: 'weather' },
        { role: 'tool', content: 'Error: gone', toolCallId: 'c2' },
        { role: 'user', content: 'And?' }
      ],
      split: true
    })
  })

  test.each([
    [{ finishReason: 'length' as const }, { stop_reason: 'max_tokens', stop_sequence: null }],
    [{ stopString: 'x' }, { stop_reason: 'stop_sequence', stop_sequence: 'x' }]
  ])('an end by %j', async (how, expected) => {
    const events: GenerateEvent[] = [...ANSWER.slice(0, -1), { type: 'done', result: { ...RESULT, ...how } }]
    const { client } = await serve(fakeNode(() => replay(events)))
    expect(await client.messages.create(question)).toMatchObject(expected)
    expect(await client.messages.stream(question).finalMessage()).toMatchObject(expected)
  })

  test('tokens are counted without an answer', async () => {
    const { client, node } = await serve()
    const { input_tokens: tokens } = await client.messages.countTokens({
      model: 'tiny',
      messages: question.messages,
      tools: [WEATHER]
    })
    expect(tokens).toBeGreaterThan(10)
    expect(node.asked).toEqual([])
  })

  test('models can be listed with the key where Anthropic has it', async () => {
    const { client } = await serve(fakeNode(), 'secret')
    expect((await client.models.list()).data.map(({ id }) => id)).toEqual(['tiny'])
    const wrong = new Anthropic({ baseURL: client.baseURL, apiKey: 'wrong', maxRetries: 0 })
    await expect(wrong.messages.create(question)).rejects.toMatchObject({
      status: 401,
      error: { type: 'error', error: { type: 'authentication_error' } }
    })
  })
})

describe('answers of a form', () => {
  const schema = { type: 'object', properties: { city: { type: 'string' } }, required: ['city'] }
  const format = { type: 'json_schema' as const, schema }
  const said = fakeNode(() =>
    replay([{ type: 'done', result: { ...RESULT, text: '{"city":"Rome"}' } }] as GenerateEvent[])
  )

  test('its client asks for one, and parses it', async () => {
    const { client, node } = await serve(said)
    const { parsed_output, content } = await client.messages.parse({
      ...question,
      output_config: { format: { ...format, parse: (text: string) => JSON.parse(text) as { city: string } } }
    })
    expect(parsed_output).toEqual({ city: 'Rome' })
    expect(content).toMatchObject([{ type: 'text', text: '{"city":"Rome"}' }])
    expect(node.asked[0]!.constraint).toEqual({ kind: 'schema', schema })
  })

  test('the older name means the same', async () => {
    const { client, node } = await serve()
    await client.messages.create({ ...question, ...{ output_format: format } })
    expect(node.asked[0]!.constraint).toEqual({ kind: 'schema', schema })
  })

  test.each([
    [{ thinking: { type: 'adaptive' as const }, output_config: { effort: 'max' as const } }, 'high', null],
    [
      { thinking: { type: 'disabled' as const }, output_config: { effort: 'low' as const } },
      false,
      'output_config.effort'
    ],
    [{ output_config: { effort: 'low' as const } }, undefined, 'output_config.effort'],
    [{ output_config: { task_budget: 5 } }, undefined, 'output_config.task_budget']
  ])('how hard it thinks: %j', async (fields, thinking, ignored) => {
    const { client, node } = await serve()
    const { response } = await client.messages.create({ ...question, ...(fields as object) }).withResponse()
    expect(node.asked[0]!.input).toMatchObject({ kind: 'chat', ...(thinking !== undefined && { thinking }) })
    expect(response.headers.get('x-edgeshard-ignored')).toBe(ignored)
  })
})

describe('what is refused', () => {
  test.each([
    ['tool_choice.type', { tool_choice: { type: 'some' } }],
    ['output_format.schema', { output_format: { type: 'json_schema' } }],
    ['output_config.format.type', { output_config: { format: { type: 'text' } } }],
    [
      'output_format',
      {
        output_format: { type: 'json_schema', schema: {} },
        output_config: { format: { type: 'json_schema', schema: {} } }
      }
    ],
    ['max_token', { max_token: 5 }],
    ['tools.0.type', { tools: [{ type: 'web_search_20250305', name: 'web_search' }] }],
    [
      'messages.0.content',
      { messages: [{ role: 'user', content: [{ type: 'image', source: { type: 'url', url: 'x' } }] }] }
    ]
  ])('%s is named', async (field, fields) => {
    const { url, node } = await serve()
    const response = await fetch(`${url}/v1/messages`, {
      method: 'POST',
      body: JSON.stringify({ ...question, ...fields })
    })
    expect(response.status).toBe(400)
    expect(await response.json()).toEqual({
      type: 'error',
      error: { type: 'invalid_request_error', message: expect.stringContaining(field) }
    })
    expect(node.asked).toEqual([])
  })

  test('errors before and within a stream', async () => {
    const { client } = await serve(
      fakeNode(async function* ({ model }) {
        if (model === 'huge') throw new UnknownModelError('nobody holds "huge"')
        yield* replay(ANSWER.slice(0, 3))
        throw new StageLostError('laptop died', 'peer')
      })
    )
    await expect(client.messages.create({ ...question, model: 'huge' })).rejects.toMatchObject({
      status: 404,
      error: { error: { type: 'not_found_error', message: 'nobody holds "huge"' } }
    })
    await expect(client.messages.stream(question).finalMessage()).rejects.toThrow('laptop died')
  })

  test('an answer that lost its devices is an error, not one that was long enough', async () => {
    const lost = { ...RESULT, finishReason: 'error' as const, error: 'laptop died' }
    const { client } = await serve(
      fakeNode(() => replay([...ANSWER.slice(0, -1), { type: 'done', result: lost }]))
    )
    await expect(client.messages.create(question)).rejects.toMatchObject({ status: 502 })
    await expect(client.messages.stream(question).finalMessage()).rejects.toThrow('laptop died')
  })

  test('a client that goes away ends its answer', async () => {
    const { client, node } = await serve(fakeNode((_, signal) => endless(signal, 'x')))
    const stream = client.messages.stream(question)
    for await (const event of stream) if (event.type === 'content_block_delta') break
    stream.abort()
    await expect.poll(() => node.signals[0]!.aborted, { timeout: deadlineMs(5_000) }).toBe(true)
  })
})
