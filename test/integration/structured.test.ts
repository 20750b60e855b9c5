import { Ajv } from 'ajv'
import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { type HttpServer, startHttpServer } from '../../node/http/index.ts'
import type { EdgeNode } from '../../node/index.ts'
import { answer, ask, Nodes, nextOf } from '../fixtures/nodes.ts'

const SCHEMA = {
  type: 'object',
  properties: {
    name: { type: 'string', maxLength: 12 },
    rooms: { type: 'array', items: { enum: ['kitchen', 'hall'] }, minItems: 1, maxItems: 2 },
    floor: { type: 'integer', minimum: -1, maximum: 40 },
    open: { type: 'boolean' }
  },
  required: ['name', 'rooms', 'floor', 'open'],
  additionalProperties: false
}
const QUESTION = 'Tell me about a house.'

const conforms = (schema: object, text: string) => {
  const ajv = new Ajv({ strict: false })
  const value: unknown = JSON.parse(text)
  expect(ajv.validate(schema, value), `${text}: ${ajv.errorsText()}`).toBe(true)
}

/** Programs' own clients, and a node with the model that comes along. */
describe('answers of a form, of one node', () => {
  let nodes: Nodes
  let node: EdgeNode
  let server: HttpServer
  let openai: OpenAI

  beforeAll(async () => {
    nodes = new Nodes()
    node = await nodes.add()
    server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
    openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
  })
  afterAll(async () => {
    await server?.stop()
    await nodes[Symbol.asyncDispose]()
  })

  const messages = [{ role: 'user' as const, content: QUESTION }]
  const chat = { model: 'edgeshard-tiny', messages, max_tokens: 120, seed: 3, temperature: 1 }

  test('a schema, by OpenAI’s client', async () => {
    const format = {
      type: 'json_schema' as const,
      json_schema: { name: 'house', strict: true, schema: SCHEMA }
    }
    const parsed = await openai.chat.completions.parse({ ...chat, response_format: format })
    expect(parsed.choices[0]!.finish_reason).toBe('stop')
    conforms(SCHEMA, parsed.choices[0]!.message.content!)
    expect(parsed.choices[0]!.message.parsed).toEqual(JSON.parse(parsed.choices[0]!.message.content!))
  })

  test('a schema, by Ollama’s client, in pieces', async () => {
    const ollama = new Ollama({ host: server.url })
    const options = { num_predict: 120, seed: 5, temperature: 1 }
    let text = ''
    for await (const { message } of await ollama.chat({
      ...{ model: 'edgeshard-tiny', messages, format: SCHEMA, options },
      stream: true
    })) {
      text += message.content
    }
    conforms(SCHEMA, text)
  })

  test('a call that has to be made, by name', async () => {
    const parameters = { type: 'object', properties: { floor: { enum: [1, 2] } }, required: ['floor'] }
    const tool = (name: string) => ({
      type: 'function' as const,
      function: { name, parameters }
    })
    const answer = await openai.chat.completions.create({
      ...{ ...chat, max_tokens: 60, tools: [tool('look'), tool('build')] },
      tool_choice: { type: 'function', function: { name: 'build' } }
    })
    expect(answer.choices[0]!.finish_reason).toBe('tool_calls')
    const [call] = answer.choices[0]!.message.tool_calls!
    if (call?.type !== 'function') throw new Error('it is no call of a function')
    expect(call.function.name).toBe('build')
    conforms(parameters, call.function.arguments)
  })

  test('a form that cannot be kept to is refused by what is wrong with it', async () => {
    const format = { type: 'json_schema' as const, json_schema: { name: 'x', schema: { not: {} } } }
    const asking = openai.chat.completions.create({ ...chat, response_format: format })
    await expect(asking).rejects.toMatchObject({
      ...{ status: 400, param: 'response_format', code: 'grammar_unusable' },
      message: expect.stringContaining('#/not')
    })
  })
})

test('the same tokens from one node, from two, after a kill, and beside others', async () => {
  await using nodes = new Nodes()
  const request = ask(QUESTION, {
    constraint: { kind: 'schema', schema: SCHEMA },
    ...{ maxTokens: 120, temperature: 1, seed: 3, exact: true }
  })
  const alone = await nodes.add()
  const whole = await answer(alone, request)
  expect(whole.finishReason).toBe('stop')
  conforms(SCHEMA, whole.text)

  const [source, ...peers] = await nodes.mesh(['source', 'a', 'b'], 0.6)
  const beside = [ask('Hello'), request, ask(QUESTION, { ...request, seed: 4 })]
  const answers = await Promise.all(beside.map(one => answer(source!, one)))
  // Kernels of some processors keep no bits, and say so: the same form then, and perhaps another near tie.
  const same = whole.exact === true ? { tokens: whole.tokens, text: whole.text } : {}
  expect(answers[1]).toMatchObject({ ...same, exact: whole.exact, finishReason: 'stop' })
  conforms(SCHEMA, answers[1]!.text)
  conforms(SCHEMA, answers[2]!.text)
  expect(answers[2]!.tokens).not.toEqual(whole.tokens)

  const events = source!.generate(request)
  const { plan } = await nextOf(events, 'plan')
  const lost = peers.find(({ peerId }) => plan.stages.some(stage => stage.peerId === peerId))!
  await nextOf(events, 'text')
  await lost.stop()
  const { result } = await nextOf(events, 'done')
  expect(result).toMatchObject({ ...(whole.exact === true && { tokens: whole.tokens }), recoveries: 1 })
  conforms(SCHEMA, result.text)
})
