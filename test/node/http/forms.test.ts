import { Ollama } from 'ollama'
import OpenAI from 'openai'
import { afterEach, describe, expect, test } from 'vitest'
import type { Constraint, GenerateRequest } from '../../../node/api.ts'
import { createClient } from '../../../node/client/index.ts'
import { parseMessages } from '../../../node/http/anthropic/schema.ts'
import { type HttpServer, startHttpServer } from '../../../node/http/index.ts'
import { generateSchema, parseGenerate } from '../../../node/http/mesh-schema.ts'
import { parseOllama } from '../../../node/http/ollama/schema.ts'
import { parseResponses } from '../../../node/http/openai/responses-schema.ts'
import { parseChat, parseCompletion } from '../../../node/http/openai/schema.ts'
import { fakeNode } from './fake-node.ts'

const SCHEMA = { type: 'object', properties: { a: { type: 'integer' } } }
const schema: Constraint = { kind: 'schema', schema: SCHEMA }
const object: Constraint = { kind: 'schema', schema: { type: 'object' } }
const text = JSON.stringify(SCHEMA)

const FORMS: [string, object, Constraint | undefined][] = [
  [
    'response_format of a schema',
    { response_format: { type: 'json_schema', json_schema: { name: 'x', schema: SCHEMA } } },
    schema
  ],
  ['response_format without a schema', { response_format: { type: 'json_object' } }, object],
  ['llama.cpp’s schema of an object', { response_format: { type: 'json_object', schema: SCHEMA } }, schema],
  ['response_format of text', { response_format: { type: 'text' } }, undefined],
  ['json_schema', { json_schema: SCHEMA }, schema],
  ['json_schema as a text', { json_schema: text }, schema],
  ['grammar', { grammar: 'root ::= "a"' }, { kind: 'grammar', text: 'root ::= "a"' }],
  ['no grammar', { grammar: '' }, undefined],
  ['guided_json', { guided_json: text }, schema],
  ['guided_regex', { guided_regex: 'a+' }, { kind: 'regex', pattern: 'a+' }],
  ['guided_choice', { guided_choice: ['a', 'b'] }, { kind: 'choice', choices: ['a', 'b'] }],
  ['guided_grammar', { guided_grammar: 'root ::= "a"' }, { kind: 'grammar', text: 'root ::= "a"' }],
  ['structured_outputs.json', { structured_outputs: { json: SCHEMA } }, schema],
  ['structured_outputs.json_object', { structured_outputs: { json_object: true } }, object],
  ['structured_outputs.regex', { structured_outputs: { regex: 'a+' } }, { kind: 'regex', pattern: 'a+' }],
  [
    'structured_outputs.choice',
    { structured_outputs: { choice: ['a'] } },
    { kind: 'choice', choices: ['a'] }
  ],
  ['structured_outputs.grammar', { structured_outputs: { grammar: 'x' } }, { kind: 'grammar', text: 'x' }],
  ['empty structured_outputs', { structured_outputs: {} }, undefined]
]

describe('forms under the names of other servers', () => {
  const messages = [{ role: 'user', content: 'hi' }]

  test.each(FORMS)('%s', (_, fields, constraint) => {
    expect(parseChat({ messages, ...fields }).request.constraint).toEqual(constraint)
    expect(parseChat({ messages, ...fields }).ignored).toEqual([])
    expect(parseCompletion({ prompt: 'hi', ...fields }).request.constraint).toEqual(constraint)
  })

  test.each([
    ['response_format.type', { response_format: { type: 'xml' } }],
    ['json_schema', { json_schema: '{' }],
    ['guided_json', { guided_json: 5 }],
    ['guided_json', { guided_json: `${'{"items":'.repeat(100)}{}${'}'.repeat(100)}` }],
    ['guided_choice', { guided_choice: 'a' }],
    ['grammar', { grammar: 'root ::= "a"', response_format: { type: 'json_object' } }],
    ['structured_outputs.regex', { structured_outputs: { regex: 'a', json: SCHEMA } }],
    ['structured_outputs.structural_tag', { structured_outputs: { structural_tag: '{}' } }],
    ['structured_outputs', { structured_outputs: 'json' }]
  ])('%s is refused where it makes no sense', (param, fields) => {
    expect(() => parseChat({ messages, ...fields })).toThrow(expect.objectContaining({ param }))
  })

  test('text.format of responses, which the answer repeats', () => {
    const format = { type: 'json_schema', name: 'x', strict: true, schema: SCHEMA }
    const { request, repeated } = parseResponses({ input: 'hi', text: { format } })
    expect(request.constraint).toEqual(schema)
    expect(repeated.text).toEqual({ format })
    expect(
      parseResponses({ input: 'hi', text: { format: { type: 'json_object' } } }).request.constraint
    ).toEqual(object)
    expect(parseResponses({ input: 'hi' }).request.constraint).toBeUndefined()
  })

  test('calls that have to be made, in the words of each API', () => {
    const parameters = { type: 'object' as const }
    const choiceOf = ({ request }: { request: GenerateRequest }) =>
      request.input.kind === 'chat' ? request.input.choice : undefined
    const tools = [{ type: 'function', function: { name: 'f', parameters } }]
    const named = { type: 'function', function: { name: 'f' } }
    expect(choiceOf(parseChat({ messages, tools, tool_choice: 'required' }))).toBe('required')
    expect(choiceOf(parseChat({ messages, tools, tool_choice: named }))).toEqual({ name: 'f' })
    const flat = [{ type: 'function', name: 'f', parameters }]
    expect(choiceOf(parseResponses({ input: 'hi', tools: flat, tool_choice: 'required' }))).toBe('required')
    expect(
      choiceOf(parseResponses({ input: 'hi', tools: flat, tool_choice: { type: 'function', name: 'f' } }))
    ).toEqual({ name: 'f' })
    const own = { model: 'm', messages, max_tokens: 5, tools: [{ name: 'f', input_schema: parameters }] }
    expect(choiceOf(parseMessages({ ...own, tool_choice: { type: 'any' } }))).toBe('required')
    expect(choiceOf(parseMessages({ ...own, tool_choice: { type: 'tool', name: 'f' } }))).toEqual({
      name: 'f'
    })
  })

  test('format of Ollama', () => {
    const constraintOf = (format: unknown) =>
      parseOllama('chat', { model: 'm', messages, format }).request!.constraint
    expect(constraintOf('json')).toEqual(object)
    expect(constraintOf(SCHEMA)).toEqual(schema)
    expect(constraintOf('')).toBeUndefined()
    expect(constraintOf(null)).toBeUndefined()
    expect(() => constraintOf('yaml')).toThrow(expect.objectContaining({ param: 'format' }))
  })
})

describe("the node's own form", () => {
  const input = { kind: 'raw', text: 'Once' }
  const OWN: Constraint[] = [
    schema,
    { kind: 'schema', schema: true },
    { kind: 'regex', pattern: 'a+' },
    { kind: 'choice', choices: ['a', 'b'] },
    { kind: 'grammar', text: 'root ::= "a"' },
    { kind: 'calls', tools: [{ name: 'f', parameters: SCHEMA }, { name: 'g' }], parallel: true }
  ]

  test.each(OWN)('has a constraint: %j', constraint => {
    expect(parseGenerate({ input, constraint })).toEqual({ input, constraint })
  })

  test.each(['required', { name: 'f' }])('has a choice among tools: %j', choice => {
    const conversation = {
      kind: 'chat',
      messages: [{ role: 'user', content: 'hi' }],
      tools: [{ name: 'f' }],
      choice
    }
    expect(parseGenerate({ input: conversation })).toEqual({ input: conversation })
  })

  test('checks them', () => {
    const deep = JSON.parse(`${'{"a":'.repeat(65)}1${'}'.repeat(65)}`)
    const wrong: unknown[] = [
      { kind: 'schema', schema: deep },
      { kind: 'calls', tools: [{ name: 'f', parameters: deep }], parallel: false },
      { kind: 'choice', choices: [] },
      { kind: 'xml' },
      'json'
    ]
    for (const constraint of wrong) expect(() => parseGenerate({ input, constraint })).toThrow('constraint')
    const messages = [{ role: 'user', content: 'hi' }]
    const choice = { kind: 'chat', messages, choice: 'some' }
    expect(() => parseGenerate({ input: choice })).toThrow('input.choice')
  })

  test('drops no field of a request', () => {
    const request: Required<Omit<GenerateRequest, 'priority'>> = {
      model: 'm',
      input: { kind: 'raw', text: 'Once' },
      maxTokens: 5,
      temperature: 1,
      topP: 0.5,
      seed: 1,
      topLogprobs: 2,
      topK: 3,
      minP: 0.1,
      repetitionPenalty: 1.1,
      frequencyPenalty: 0.1,
      presencePenalty: 0.1,
      penaltyWindow: 9,
      logitBias: { 1: 2 },
      stop: ['a'],
      stopTokenIds: [1],
      minTokens: 1,
      constraint: schema,
      ignoreEos: true,
      objective: 'latency',
      privacy: 'prompt',
      placement: { method: 'edgeshard' },
      speculate: 'off',
      draft: 'd',
      conversation: 'c',
      exact: true,
      standby: true,
      keepAliveMs: 5
    }
    expect(parseGenerate(request)).toEqual(request)
    expect(Object.keys(generateSchema.shape).toSorted()).toEqual(Object.keys(request).toSorted())
  })

  test('takes null for nothing said of how the mesh is to answer, as the other APIs do', () => {
    const input = { kind: 'raw', text: 'a' }
    expect(parseGenerate({ input, exact: null, standby: null })).toEqual({ input })
  })
})

describe('clients', () => {
  const servers: HttpServer[] = []
  afterEach(async () => {
    await Promise.all(servers.splice(0).map(server => server.stop()))
  })

  test('of OpenAI and Ollama hand their forms on', async () => {
    const node = fakeNode()
    const server = await startHttpServer({ node, host: '127.0.0.1', port: 0 })
    servers.push(server)
    const openai = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none', maxRetries: 0 })
    const ollama = new Ollama({ host: server.url })
    const messages = [{ role: 'user' as const, content: 'hi' }]
    const format = { type: 'json_schema' as const, name: 'x', schema: SCHEMA }
    await openai.chat.completions.create({
      model: 'tiny',
      messages,
      response_format: { type: 'json_object' }
    })
    await openai.responses.create({ model: 'tiny', input: 'hi', text: { format } })
    await ollama.chat({ model: 'tiny', messages, format: SCHEMA })
    await ollama.generate({ model: 'tiny', prompt: 'hi', format: 'json' })
    const client = createClient({ url: server.url })
    const own = { model: 'tiny', input: { kind: 'raw' as const, text: 'hi' }, constraint: schema }
    for await (const _ of client.generate(own));
    expect(node.asked.map(({ constraint }) => constraint)).toEqual([object, schema, schema, object, schema])
  })
})
