import OpenAI from 'openai'
import { afterEach, describe, expect, test } from 'vitest'
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

const question = { model: 'tiny', messages: [{ role: 'user' as const, content: 'Rome?' }] }
const tools = [
  {
    type: 'function' as const,
    function: {
      name: 'weather',
      description: 'How it is outside',
      parameters: { type: 'object', properties: { city: { type: 'string' } } }
    }
  }
]
const CALLS = [
  { id: 'call_1', type: 'function', function: { name: 'weather', arguments: '{"city":"Rome"}' } },
  { id: 'call_2', type: 'function', function: { name: 'clock', arguments: '{}' } }
]

describe('tools', () => {
  test('calls of a whole answer', async () => {
    const { client, node } = await serve(fakeNode(() => replay(CALLING)))
    const { data, response } = await client.chat.completions
      .create({ ...question, tools, tool_choice: 'auto', parallel_tool_calls: false })
      .withResponse()
    expect(data.choices[0]).toMatchObject({
      finish_reason: 'tool_calls',
      message: { content: 'I look.', reasoning_content: 'Which city?', tool_calls: CALLS }
    })
    expect(response.headers.get('x-edgeshard-tools')).toBe('template')
    expect(node.asked[0]!.input).toEqual({
      kind: 'chat',
      messages: question.messages,
      tools: [tools[0]!.function],
      parallel: false,
      split: true
    })
  })

  test('calls of a streamed one, put together by OpenAI’s client', async () => {
    const { client } = await serve(fakeNode(() => replay(CALLING)))
    const stream = client.chat.completions.stream({ ...question, tools })
    const deltas: string[] = []
    let thought = ''
    for await (const chunk of stream) {
      const delta = chunk.choices[0]!.delta as { reasoning_content?: string; tool_calls?: object[] }
      thought += delta.reasoning_content ?? ''
      for (const call of chunk.choices[0]!.delta.tool_calls ?? []) deltas.push(call.function?.arguments ?? '')
    }
    expect(await stream.finalChatCompletion()).toMatchObject({
      choices: [{ finish_reason: 'tool_calls', message: { content: 'I look.', tool_calls: CALLS } }]
    })
    expect(thought).toBe('Which city?')
    expect(deltas).toEqual(['', '{"city":', '"Rome"}', '', '{}'])
  })

  test('the round trip of OpenAI’s client: it calls the function and tells the result', async () => {
    const node = fakeNode(({ input }) => {
      const isAnswered = input.kind === 'chat' && input.messages.some(({ role }) => role === 'tool')
      const once = CALLING.filter(event => !('index' in event) || event.index === 0)
      const [done] = CALLING.slice(-1)
      const first = {
        ...RESULT,
        text: 'I look.',
        toolCalls: [{ id: 'call_1', name: 'weather', arguments: '{"city":"Rome"}' }]
      }
      return replay(
        isAnswered
          ? ANSWER
          : once.map(event => (event === done ? { type: 'done' as const, result: first } : event))
      )
    })
    const { client } = await serve(node)
    const asked: unknown[] = []
    const run = client.chat.completions.runTools({
      ...question,
      tools: [
        {
          type: 'function',
          function: {
            ...tools[0]!.function,
            parse: JSON.parse,
            function: (given: object) => {
              asked.push(given)
              return 'rain'
            }
          }
        }
      ]
    })
    expect(await run.finalContent()).toBe(RESULT.text)
    expect(asked).toEqual([{ city: 'Rome' }])
    expect(node.asked[1]!.input).toMatchObject({
      messages: [
        { role: 'user', content: 'Rome?' },
        {
          role: 'assistant',
          content: 'I look.',
          toolCalls: [{ id: 'call_1', name: 'weather', arguments: '{"city":"Rome"}' }]
        },
        { role: 'tool', content: 'rain', toolCallId: 'call_1', name: 'weather' }
      ]
    })
  })

  test('with "none" there are none', async () => {
    const { client, node } = await serve()
    await client.chat.completions.create({ ...question, tools, tool_choice: 'none' })
    expect(node.asked[0]!.input).not.toHaveProperty('tools')
  })

  test.each([
    ['required', 'required'],
    [{ type: 'function', function: { name: 'weather' } }, { name: 'weather' }]
  ])('a call that has to be made: %j', async (choice, asked) => {
    const { client, node } = await serve()
    await client.chat.completions.create({ ...question, tools, tool_choice: choice as 'required' })
    expect(node.asked[0]!.input).toMatchObject({ choice: asked })
  })
})

describe('thinking', () => {
  test.each([
    [{ reasoning_effort: 'none' }, { thinking: false }],
    [{ reasoning_effort: 'minimal' }, { thinking: 'low' }],
    [{ reasoning_effort: 'high' }, { thinking: 'high' }],
    [{ enable_thinking: false }, { thinking: false }],
    [
      { chat_template_kwargs: { enable_thinking: false, x: 1 } },
      { templateArguments: { enable_thinking: false, x: 1 } }
    ]
  ])('%j', async (fields, expected) => {
    const { client, node } = await serve()
    await client.chat.completions.create({ ...question, ...fields } as typeof question)
    expect(node.asked[0]!.input).toEqual({
      kind: 'chat',
      messages: question.messages,
      split: true,
      ...expected
    })
  })

  test('what a template does not read is said', async () => {
    const prompt = {
      type: 'prompt' as const,
      tokens: 4,
      tools: 'generic' as const,
      unread: ['thinking', 'x,\ny']
    }
    const { url } = await serve(fakeNode(() => replay([prompt, ...ANSWER.slice(1)])))
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify(question)
    })
    expect(response.headers.get('x-edgeshard-tools')).toBe('generic')
    expect(response.headers.get('x-edgeshard-unread')).toBe('thinking, x__y')
    await response.arrayBuffer()
  })
})

describe('fields', () => {
  const post = async (fields: object, path = '/v1/chat/completions') => {
    const { url, node } = await serve()
    const body = path.includes('chat')
      ? { ...question, ...fields }
      : { model: 'tiny', prompt: 'x', ...fields }
    const response = await fetch(`${url}${path}`, { method: 'POST', body: JSON.stringify(body) })
    const { error } = (await response.json()) as { error?: { message: string; param: string } }
    return { status: response.status, error, ignored: response.headers.get('x-edgeshard-ignored'), node }
  }

  test.each([
    'temprature',
    'max_token',
    'topP',
    'Stop',
    'presence_penalti',
    'respones_format',
    'max_completion_toknes'
  ])('%s is misspelt', async name => {
    const { status, error } = await post({ [name]: 1 })
    expect([status, error?.param]).toEqual([400, name])
    expect(error?.message).toContain('there is no such field')
  })

  test('what nobody knows is passed over and named', async () => {
    const { status, ignored } = await post({ frobnicate: 1, 'ünknown, x': 2, metadata: { a: 'b' }, n: 1 })
    expect([status, ignored]).toEqual([200, 'frobnicate, _nknown__x'])
  })

  test('what a server answers with and nobody asks, and a schema that nothing enforces, are named', async () => {
    const strict = [{ ...tools[0]!, function: { ...tools[0]!.function, strict: true } }]
    const messages = [{ ...question.messages[0]!, cache_control: {}, refusal: null }]
    expect((await post({ messages, tools: strict })).ignored).toBe(
      'messages.cache_control, tools.function.strict'
    )
  })

  test.each(['/v1/rerank', '/rerank', '/v1/images/generations', '/v1/audio/speech'])(
    '%s is refused by its name',
    async path => {
      const { status, error } = await post({}, path)
      expect([status, error?.message]).toEqual([400, expect.stringContaining('is not supported')])
    }
  )

  // What other servers take these to mean.
  test.each([
    [{ max_tokens: -1 }, {}],
    [{ max_tokens: 0 }, {}],
    [{ max_tokens: null }, {}],
    [{ max_completion_tokens: 5, max_tokens: 7 }, { maxTokens: 5 }],
    [{ seed: -1 }, {}],
    [{ seed: 7 }, { seed: 7 }],
    [{ stop: '' }, {}],
    [{ stop: ['', 'x'] }, { stop: ['x'] }],
    [{ user: 'u' }, { conversation: 'u' }],
    [{ user: 'u'.repeat(513) }, { conversation: expect.stringMatching(/^[0-9a-f]{64}$/) }],
    [{ prompt_cache_key: 'k', user: 'u' }, { conversation: 'k' }],
    [
      { temperature: 0.5, top_p: 0.25 },
      { temperature: 0.5, topP: 0.25 }
    ],
    [{ exact: null, standby: null }, {}]
  ])('%j', async (fields, expected) => {
    const { node } = await post(fields)
    const { model, input, ...asked } = node.asked[0]!
    expect(asked).toEqual(expected)
  })

  test.each([
    '/v1/chat/completions',
    '/v1/completions',
    '/v1/responses',
    '/v1/messages',
    '/api/chat',
    '/api/generate'
  ])('how the mesh is to answer is said to %s alike', async path => {
    const { url, node } = await serve()
    const mesh = {
      objective: 'throughput',
      privacy: 'sealed',
      speculate: 'mtp',
      draft: 'd',
      exact: true,
      standby: true
    }
    const { messages } = question
    const texts = { '/v1/responses': { input: 'x' }, '/v1/messages': { messages, max_tokens: 5 } }[path]
    const body = { model: 'tiny', ...(texts ?? (path.includes('chat') ? { messages } : { prompt: 'x' })) }
    const response = await fetch(`${url}${path}`, {
      method: 'POST',
      body: JSON.stringify({ ...body, ...mesh })
    })
    await response.arrayBuffer()
    expect([response.status, response.headers.get('x-edgeshard-ignored')]).toEqual([200, null])
    expect(node.asked[0]).toMatchObject(mesh)
  })

  test.each([['' as const], [null]])('a model called %j is the default', async model => {
    const { node } = await post({ model })
    expect(node.asked[0]!.model).toBeUndefined()
  })

  test('a completion has 16 tokens where none are named, and the rest of the context for -1', async () => {
    expect((await post({}, '/v1/completions')).node.asked[0]!.maxTokens).toBe(16)
    expect((await post({ max_tokens: -1 }, '/v1/completions')).node.asked[0]!.maxTokens).toBeUndefined()
  })
})

describe('completions of several prompts', () => {
  const texts = async function* (text: string) {
    yield* replay([
      { type: 'text', text, tokens: [1], logprobs: [] },
      { type: 'done', result: { ...RESULT, text } }
    ])
  }
  const node = () =>
    fakeNode(({ input }) =>
      texts(input.kind === 'raw' ? `<${input.text}>` : input.kind === 'ids' ? `<${input.ids}>` : '')
    )

  test('are choices in their order, whole and streamed, with figures of them together', async () => {
    const { client } = await serve(node())
    const prompt = Array.from({ length: 20 }, (_, i) => `p${i}`)
    const whole = await client.completions.create({ model: 'tiny', prompt })
    expect(whole.choices.map(({ index, text }) => [index, text])).toEqual(
      prompt.map((one, i) => [i, `<${one}>`])
    )
    expect(whole.usage).toMatchObject({ prompt_tokens: 80, completion_tokens: 60 })
    const stream = await client.completions.create({
      model: 'tiny',
      prompt,
      stream: true,
      stream_options: { include_usage: true }
    })
    const shown = new Map<number, string>()
    let usage: object | null | undefined
    for await (const chunk of stream) {
      for (const { index, text } of chunk.choices) shown.set(index, (shown.get(index) ?? '') + text)
      usage = chunk.usage
    }
    expect([...shown]).toEqual(prompt.map((one, i) => [i, `<${one}>`]))
    expect(usage).toMatchObject({ prompt_tokens: 80, completion_tokens: 60 })
  })

  test('may be token ids, one list or several', async () => {
    const { client, node: asked } = await serve(node())
    const one = await client.completions.create({ model: 'tiny', prompt: [1, 2] })
    expect(one.choices.map(({ text }) => text)).toEqual(['<1,2>'])
    const two = await client.completions.create({ model: 'tiny', prompt: [[1], [2, 3]] })
    expect(two.choices.map(({ text }) => text)).toEqual(['<1>', '<2,3>'])
    expect(asked.asked[0]!.input).toEqual({ kind: 'ids', ids: [1, 2] })
  })

  test('one that fails ends the others', async () => {
    const failing = fakeNode(async function* ({ input }, signal) {
      if (input.kind === 'raw' && input.text === 'bad') throw new Error('no')
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
      yield* replay(ANSWER)
    })
    const { client } = await serve(failing)
    const asking = client.completions.create({ model: 'tiny', prompt: ['good', 'bad'] })
    await expect(asking).rejects.toMatchObject({ status: 500 })
    expect(failing.signals.every(signal => signal.aborted)).toBe(true)
  })
})
