import { createOpenAI } from '@ai-sdk/openai'
import { createOpenAICompatible } from '@ai-sdk/openai-compatible'
import { tool as langChainTool } from '@langchain/core/tools'
import { ChatOpenAI, OpenAIEmbeddings } from '@langchain/openai'
import { embed, embedMany, generateText, type LanguageModel, streamText, type ToolSet, tool } from 'ai'
import { afterEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { CALLING, endless, type FakeNode, fakeNode, RESULT, replay } from './fake-node.ts'

/** Frameworks that programs are built with, each by its own way of asking. */

const servers: HttpServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map(server => server.stop()))
})

async function serve(node: FakeNode = fakeNode()) {
  const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
  servers.push(server)
  return { node, baseURL: `${server.url}/v1` }
}

const city = z.object({ city: z.string().optional() })
const VECTOR = [0.6, 0.8].map(Math.fround)
const OTHER = [0.6, -0.8].map(Math.fround)

type ModelOf = (baseURL: string) => LanguageModel
const compatible: ModelOf = baseURL => createOpenAICompatible({ name: 'edgeshard', baseURL })('tiny')
const chat: ModelOf = baseURL => createOpenAI({ baseURL, apiKey: 'none' }).chat('tiny')
const responses: ModelOf = baseURL => createOpenAI({ baseURL, apiKey: 'none' })('tiny')

describe.each([
  ['openai-compatible', compatible],
  ['openai, chat', chat],
  ['openai, responses', responses]
])('AI SDK by %s', (_, modelOf) => {
  test('answers whole and in pieces', async () => {
    const { baseURL } = await serve()
    const model = modelOf(baseURL)
    const { text, usage, finishReason } = await generateText({ model, prompt: 'Hi', maxRetries: 0 })
    expect([text, usage.inputTokens, usage.outputTokens, finishReason]).toEqual([RESULT.text, 4, 3, 'stop'])
    let streamed = ''
    for await (const piece of streamText({ model, prompt: 'Hi', maxRetries: 0 }).textStream) streamed += piece
    expect(streamed).toBe(RESULT.text)
  })

  test('calls tools, whole and in pieces', async () => {
    const { node, baseURL } = await serve(fakeNode(() => replay(CALLING)))
    // Its own types do not go with `exactOptionalPropertyTypes`.
    const tools = {
      weather: tool({ description: 'How it is outside', inputSchema: city }),
      clock: tool({ inputSchema: z.object({}) })
    } as unknown as ToolSet
    const asked = { model: modelOf(baseURL), prompt: 'Rome?', tools, maxRetries: 0 }
    const whole = await generateText(asked)
    const streamed = streamText(asked)
    await streamed.consumeStream()
    for (const { toolCalls, finishReason } of [
      whole,
      { toolCalls: await streamed.toolCalls, finishReason: await streamed.finishReason }
    ]) {
      expect(toolCalls.map(({ toolName, input }) => [toolName, input])).toEqual([
        ['weather', { city: 'Rome' }],
        ['clock', {}]
      ])
      expect(finishReason).toBe('tool-calls')
    }
    expect(node.asked[0]!.input).toMatchObject({
      tools: [{ name: 'weather', description: 'How it is outside' }, { name: 'clock' }]
    })
  })

  test('a stream that is aborted ends at the node', async () => {
    const { node, baseURL } = await serve(fakeNode((_, signal) => endless(signal, 'on ')))
    const abort = new AbortController()
    const asked = { model: modelOf(baseURL), prompt: 'Hi', maxRetries: 0, abortSignal: abort.signal }
    for await (const _ of streamText(asked).textStream) {
      abort.abort()
      break
    }
    await expect.poll(() => node.signals[0]!.aborted).toBe(true)
  })
})

test('AI SDK embeds, by both of its providers', async () => {
  const { node, baseURL } = await serve()
  const compatible = createOpenAICompatible({ name: 'edgeshard', baseURL }).embeddingModel('tiny')
  const openai = createOpenAI({ baseURL, apiKey: 'none' }).embedding('tiny')
  for (const model of [compatible, openai]) {
    expect((await embed({ model, value: 'one', maxRetries: 0 })).embedding).toEqual(VECTOR)
    const { embeddings, usage } = await embedMany({ model, values: ['one', 'two'], maxRetries: 0 })
    expect([embeddings, usage.tokens]).toEqual([[VECTOR, OTHER], 6])
  }
  expect(node.embedded).toHaveLength(4)
})

describe('LangChain', () => {
  const settings = (baseURL: string) => ({
    model: 'tiny',
    apiKey: 'none',
    maxRetries: 0,
    configuration: { baseURL }
  })

  test('answers whole and in pieces', async () => {
    const { baseURL } = await serve()
    const model = new ChatOpenAI(settings(baseURL))
    expect(await model.invoke('Hi')).toMatchObject({
      content: RESULT.text,
      usage_metadata: { input_tokens: 4, output_tokens: 3 }
    })
    let streamed = ''
    for await (const piece of await model.stream('Hi')) streamed += piece.text
    expect(streamed).toBe(RESULT.text)
  })

  test('calls tools', async () => {
    const { node, baseURL } = await serve(fakeNode(() => replay(CALLING)))
    const weather = langChainTool(() => 'sunny', { name: 'weather', description: 'Outside', schema: city })
    const { tool_calls } = await new ChatOpenAI(settings(baseURL)).bindTools([weather]).invoke('Rome?')
    expect(tool_calls?.map(({ name, args }) => [name, args])).toEqual([
      ['weather', { city: 'Rome' }],
      ['clock', {}]
    ])
    expect(node.asked[0]!.input).toMatchObject({ tools: [{ name: 'weather' }] })
  })

  test('embeds a query and documents', async () => {
    const { baseURL } = await serve()
    const embeddings = new OpenAIEmbeddings(settings(baseURL))
    expect(await embeddings.embedQuery('one')).toEqual(VECTOR)
    expect(await embeddings.embedDocuments(['one', 'two'])).toEqual([VECTOR, OTHER])
  })
})
