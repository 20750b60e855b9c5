import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import Anthropic from '@anthropic-ai/sdk'
import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../node/http/index.ts'
import { createNode, type EdgeNode } from '../../node/index.ts'
import { deadlineMs } from '../fixtures/machine.ts'

const MODEL = 'edgeshard-tiny'
const QUESTION = 'What does a pump do?'
const SCHEMA = { type: 'object' as const, properties: { room: { type: 'string' } } }

/** Programs' own clients, and a node with the model that comes along. */
describe('clients of other people', () => {
  let home: string
  let node: EdgeNode
  let server: HttpServer
  let openai: OpenAI
  let anthropic: Anthropic
  let ollama: Ollama

  beforeAll(async () => {
    home = await mkdtemp(join(tmpdir(), 'edgeshard-clients-'))
    node = await createNode({ home, mdns: false, port: 0, threads: 1 })
    server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
    openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
    anthropic = new Anthropic({ baseURL: server.url, apiKey: 'none', maxRetries: 0 })
    ollama = new Ollama({ host: server.url })
  })
  afterAll(async () => {
    await server?.stop()
    await node?.stop()
    await rm(home, { recursive: true, force: true })
  })

  const messages = [{ role: 'user' as const, content: QUESTION }]
  const chat = { model: MODEL, messages, max_tokens: 20 }
  const greedy = { temperature: 0 }
  let expected: string

  test('a prompt goes on from the KV caches of its own key, in every API, and the usage says how far', async () => {
    const apiKeys = ['ann', 'bob'].map(name => ({ name, key: `k-${name}` }))
    const keyed = await startHttpServer({ node, host: '127.0.0.1', port: 0, apiKeys })
    const content = `${'The pump is in the hall, and the lamp is out. '.repeat(8)}${QUESTION}`
    const asked = { model: MODEL, messages: [{ role: 'user' as const, content }], max_tokens: 8, ...greedy }
    const read = async (url: string, apiKey: string, about: object = {}) => {
      const client = new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 })
      const { usage } = await client.chat.completions.create({ ...asked, ...about })
      return usage!.prompt_tokens_details!.cached_tokens!
    }
    try {
      expect(await read(keyed.url, 'k-ann')).toBe(0)
      const cached = await read(keyed.url, 'k-ann')
      expect(cached).toBeGreaterThanOrEqual(32)
      const client = new Anthropic({ baseURL: keyed.url, apiKey: 'k-ann', maxRetries: 0 })
      const { usage } = await client.messages.create(asked)
      expect(usage.cache_read_input_tokens).toBe(cached)
      // Neither another key nor another name finds any of it, nor who has no key. As many slots as there are hold it then.
      for (const strange of [
        () => read(keyed.url, 'k-bob'),
        () => read(keyed.url, 'k-ann', { user: 'u' }),
        () => read(server.url, 'none', { user: 'ann' })
      ]) {
        expect(await strange()).toBe(0)
      }
      expect(await read(keyed.url, 'k-ann')).toBe(cached)
      expect(await read(server.url, 'none')).toBe(0)
    } finally {
      await keyed.stop()
    }
  })

  test('each gets the same greedy answer, whole and in pieces', async () => {
    const whole = await openai.chat.completions.create({ ...chat, ...greedy })
    expected = whole.choices[0]!.message.content!
    expect(expected.length).toBeGreaterThan(10)
    const pieces = await openai.chat.completions.stream({ ...chat, ...greedy }).finalContent()
    const response = await openai.responses.create({
      model: MODEL,
      input: QUESTION,
      max_output_tokens: 20,
      ...greedy
    })
    const events = openai.responses.stream({
      model: MODEL,
      input: QUESTION,
      max_output_tokens: 20,
      ...greedy
    })
    const message = await anthropic.messages.create({ ...chat, ...greedy })
    const streamed = anthropic.messages.stream({ ...chat, ...greedy })
    const options = { num_predict: 20, ...greedy }
    const local = await ollama.chat({ model: `${MODEL}:latest`, messages, options })
    let lines = ''
    for await (const { message: said } of await ollama.chat({
      model: MODEL,
      messages,
      options,
      stream: true
    })) {
      lines += said.content
    }
    const generated = await ollama.generate({ model: MODEL, prompt: QUESTION, options })
    const textOf = ({ content }: Anthropic.Message) =>
      content.map(block => 'text' in block && block.text).join('')
    expect([
      pieces,
      response.output_text,
      (await events.finalResponse()).output_text,
      textOf(message),
      textOf(await streamed.finalMessage()),
      local.message.content,
      lines,
      generated.response
    ]).toEqual(Array.from({ length: 8 }, () => expected))
  })

  test('tokens that Anthropic’s client counts are those of the prompt', async () => {
    const tools = [{ name: 'light', description: 'Switches a light', input_schema: SCHEMA }]
    const { input_tokens: counted } = await anthropic.messages.countTokens({ model: MODEL, messages, tools })
    const { data, response } = await anthropic.messages.create({ ...chat, tools }).withResponse()
    expect(data.usage.input_tokens + (data.usage.cache_read_input_tokens ?? 0)).toBe(counted)
    // The model's template has no words for tools.
    expect(response.headers.get('x-edgeshard-tools')).toBe('generic')
    const without = await anthropic.messages.countTokens({ model: MODEL, messages })
    expect(counted).toBeGreaterThan(without.input_tokens + 20)
  })

  test('a conversation with a call and its result is read by each API alike', async () => {
    const tool = { name: 'light', description: 'Switches a light', parameters: SCHEMA }
    const whole = await openai.chat.completions.create({
      ...chat,
      ...greedy,
      messages: [
        ...messages,
        {
          role: 'assistant',
          content: null,
          tool_calls: [
            { id: 'c', type: 'function', function: { name: 'light', arguments: '{"room":"hall"}' } }
          ]
        },
        { role: 'tool', tool_call_id: 'c', content: 'on' }
      ],
      tools: [{ type: 'function', function: tool }]
    })
    const message = await anthropic.messages.create({
      ...chat,
      ...greedy,
      messages: [
        ...messages,
        {
          role: 'assistant',
          content: [{ type: 'tool_use', id: 'c', name: 'light', input: { room: 'hall' } }]
        },
        { role: 'user', content: [{ type: 'tool_result', tool_use_id: 'c', content: 'on' }] }
      ],
      tools: [{ name: tool.name, description: tool.description, input_schema: SCHEMA }]
    })
    const local = await ollama.chat({
      model: MODEL,
      messages: [
        ...messages,
        {
          role: 'assistant',
          content: '',
          tool_calls: [{ function: { name: 'light', arguments: { room: 'hall' } } }]
        },
        { role: 'tool', content: 'on', tool_name: 'light' }
      ],
      tools: [{ type: 'function', function: tool }],
      options: { num_predict: 20, ...greedy }
    })
    const { input_tokens: read, cache_read_input_tokens: cached } = message.usage
    expect([read + (cached ?? 0), local.prompt_eval_count]).toEqual(
      Array.from({ length: 2 }, () => whole.usage!.prompt_tokens)
    )
    expect(local.message.content).toBe(whole.choices[0]!.message.content)
  })

  test('prompts as token ids, and several at once', async () => {
    const { tokens } = (await (
      await fetch(`${server.url}/api/tokenize`, { method: 'POST', body: JSON.stringify({ text: 'A pump' }) })
    ).json()) as { tokens: number[] }
    const common = { model: MODEL, max_tokens: 8, ...greedy }
    const asText = await openai.completions.create({ ...common, prompt: ['A pump', 'A valve'] })
    const asIds = await openai.completions.create({ ...common, prompt: tokens })
    expect(asText.choices.map(({ index }) => index)).toEqual([0, 1])
    expect(asIds.choices[0]!.text).toBe(asText.choices[0]!.text)
  })

  test('who goes away ends the answer', async () => {
    const endless = { ...chat, max_tokens: 400 }
    const first = await openai.chat.completions.create({ ...endless, stream: true })
    for await (const _ of first) break
    first.controller.abort()
    const second = anthropic.messages.stream(endless)
    for await (const event of second) if (event.type === 'content_block_delta') break
    second.abort()
    const third = await ollama.chat({ model: MODEL, messages, stream: true, options: { num_predict: 400 } })
    third.abort()
    await expect.poll(() => node.mesh().sessions, { timeout: deadlineMs(10_000) }).toBe(0)
  })
})
