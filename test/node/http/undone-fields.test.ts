import { describe, expect, test } from 'vitest'
import { parseMessages } from '../../../node/http/anthropic/schema.ts'
import { parseOllama } from '../../../node/http/ollama/schema.ts'
import { parseResponses } from '../../../node/http/openai/responses-schema.ts'
import { parseChat, parseCompletion } from '../../../node/http/openai/schema.ts'

const user = { role: 'user', content: 'Once' }
const chat = (fields: object) => parseChat({ model: 'M', messages: [user], ...fields })
const completion = (fields: object) => parseCompletion({ model: 'M', prompt: 'Once', ...fields })
const responses = (fields: object) => parseResponses({ model: 'M', input: 'Once', ...fields })
const anthropic = (fields: object) =>
  parseMessages({ model: 'M', max_tokens: 9, messages: [user], ...fields })
const ollamaChat = (fields: object) => parseOllama('chat', { model: 'M', messages: [user], ...fields })
const ollamaGenerate = (fields: object) => parseOllama('generate', { model: 'M', prompt: 'Once', ...fields })

const refused = (field: string) => ({
  name: 'RequestError',
  param: field,
  message: expect.stringContaining(`${field}: `)
})
const thrownBy = (work: () => unknown): unknown => {
  try {
    return work()
  } catch (error) {
    return error
  }
}

/** Sampling that is not done, with a value of each that asks for nothing. */
const SAMPLING: [field: string, value: unknown, neutral: unknown][] = [
  ['typical_p', 0.5, 1],
  ['tfs_z', 0.5, 1],
  ['mirostat', 2, 0]
]

const TEXT: [field: string, value: unknown, neutral: unknown][] = [
  ...SAMPLING,
  ['top_n_sigma', 1, -1],
  ['xtc_probability', 0.1, 0],
  ['dry_multiplier', 0.8, 0],
  ['use_beam_search', true, false],
  ['guided_whitespace_pattern', ' ', ''],
  ['n_predict', 5, -1],
  ['max_new_tokens', 5, null],
  ['bad_words', ['a'], []],
  ['truncate_prompt_tokens', 5, -1],
  ['include_stop_str_in_output', true, false],
  ['prompt_logprobs', 1, 0],
  ['lora', [{ id: 0, scale: 1 }], []],
  ['options', { num_ctx: 4096, temperature: 0 }, { num_ctx: 4096 }],
  ['best_of', 2, 1]
]

const CHAT: [field: string, value: unknown, neutral: unknown][] = [
  ...TEXT,
  ['functions', [{ name: 'f', parameters: {} }], []],
  ['function_call', { name: 'f' }, 'auto'],
  ['tools', [{ type: 'web_search' }], []],
  ['modalities', ['text', 'audio'], ['text']],
  ['audio', { voice: 'x' }, null],
  ['web_search_options', {}, null],
  ['system', 'Be brief.', ''],
  ['chat_template', '{{ messages }}', ''],
  ['reasoning', { effort: 'high' }, {}],
  ['add_generation_prompt', false, true],
  ['continue_final_message', true, false],
  ['format', 'json', '']
]

/** Forms, and how many answers there are to be, on doors that have no such fields of their own. */
const OF_OTHERS: [field: string, value: unknown, neutral: unknown][] = [
  ['guided_json', { type: 'object' }, ''],
  ['guided_regex', 'a+', ''],
  ['guided_choice', ['a'], []],
  ['guided_grammar', 'root ::= "a"', ''],
  ['guided_whitespace_pattern', ' ', ''],
  ['grammar', 'root ::= "a"', ''],
  ['json_schema', {}, ''],
  ['structured_outputs', { regex: 'a+' }, {}],
  ['response_format', { type: 'json_object' }, { type: 'text' }],
  ['n', 2, 1],
  ['best_of', 2, 1]
]

const OLLAMA: [field: string, value: unknown, neutral: unknown][] = [
  ...OF_OTHERS,
  ['tool_choice', 'required', 'auto'],
  ['tool_choice', { type: 'function', function: { name: 'f' } }, 'none'],
  ['images', ['AAAA'], []],
  ['context', [1, 2, 3], []],
  ['template', '{{ .Prompt }}', ''],
  ['logprobs', true, false]
]

describe.each([
  ['/v1/chat/completions', chat, CHAT],
  ['/v1/completions', completion, TEXT],
  ['/v1/responses', responses, OF_OTHERS],
  ['/v1/messages', anthropic, OF_OTHERS],
  ["Ollama's /api/chat", ollamaChat, OLLAMA],
  ["Ollama's /api/generate", ollamaGenerate, OLLAMA]
])('%s', (_, parse, fields) => {
  test.each(fields)('refuses %s = %j by its name, and takes %j', (field, value, neutral) => {
    expect(thrownBy(() => parse({ [field]: value }))).toMatchObject({ name: 'RequestError' })
    const { param, message } = thrownBy(() => parse({ [field]: value })) as { param: string; message: string }
    expect(param.split('.')[0]).toBe(field)
    expect(message).toContain(field)
    for (const asksNothing of [neutral, null]) expect(() => parse({ [field]: asksNothing })).not.toThrow()
  })
})

describe.each([
  ["Ollama's /api/chat", ollamaChat],
  ["Ollama's /api/generate", ollamaGenerate]
])('options of %s', (_, parse) => {
  test.each([...SAMPLING, ...OF_OTHERS])(
    'refuse %s = %j by its name, and take %j',
    (field, value, neutral) => {
      expect(thrownBy(() => parse({ options: { [field]: value } }))).toMatchObject(
        refused(`options.${field}`)
      )
      for (const asksNothing of [neutral, null]) {
        expect(() => parse({ options: { [field]: asksNothing, num_ctx: 2048, num_gpu: 1 } })).not.toThrow()
      }
    }
  )
})

test("Ollama's tools are not the model's where none is to be called", () => {
  const tools = [{ type: 'function', function: { name: 'f', parameters: {} } }]
  const toolsOf = (choice: string) => ollamaChat({ tools, tool_choice: choice }).request!.input
  expect(toolsOf('auto')).toHaveProperty('tools')
  expect(toolsOf('none')).not.toHaveProperty('tools')
})

describe.each([
  ['OpenAI', (messages: object[]) => chat({ messages })],
  ['Ollama', (messages: object[]) => ollamaChat({ messages })]
])('messages as %s has them', (_, parse) => {
  test.each([
    ['function_call', { name: 'f', arguments: '{}' }, null],
    ['images', ['AAAA'], []]
  ])('with %s are refused by its name', (field, value, neutral) => {
    const before = { role: 'assistant', content: 'I see.' }
    const asked = thrownBy(() => parse([user, { ...before, [field]: value }, user]))
    expect(asked).toMatchObject(refused(`messages.1.${field}`))
    expect(() => parse([user, { ...before, [field]: neutral }, user])).not.toThrow()
  })
})

test('fields that change nothing of an answer are passed over', () => {
  const harmless = {
    user: 'u',
    metadata: { a: 'b' },
    store: false,
    service_tier: 'auto',
    stream_options: { include_usage: true },
    parallel_tool_calls: true,
    safety_identifier: 'x',
    cache_prompt: true,
    keep_alive: 5,
    logprobs: false,
    // Details of what is off.
    mirostat_tau: 5,
    xtc_threshold: 0.1
  }
  for (const parse of [chat, completion]) expect(() => parse(harmless)).not.toThrow()
})

test('an object that has a name of every object asks for nothing', () => {
  expect(() => chat(JSON.parse('{"constructor":1,"__proto__":{"typical_p":0.5},"toString":2}'))).not.toThrow()
})
