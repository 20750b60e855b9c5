import fc from 'fast-check'
import { describe, expect, test, vi } from 'vitest'
import type { CallSyntax, ReplyPart } from '../../../models/reply/parts.ts'
import { ReplyReader } from '../../../models/reply/reader.ts'

const THOUGHTS = ['<think>', '</think>'] as const
const TOOLS = new Map<string, unknown>([
  ['weather', { type: 'object', properties: { city: { type: 'string' }, days: { type: 'integer' } } }],
  ['clock', { type: 'object', properties: {} }]
])

interface Read {
  text: string
  reasoning: string
  calls: { name: string; arguments: string; whole: boolean; id?: string }[]
}

interface Given {
  isThinking?: boolean
  tools?: ReadonlyMap<string, unknown>
}

/** What comes of a reply that arrives in these pieces. */
function read(
  calls: CallSyntax,
  pieces: readonly string[],
  { isThinking = false, tools = TOOLS }: Given = {}
): Read {
  const reader = new ReplyReader({ syntax: { calls, thoughts: THOUGHTS }, tools, isThinking })
  const parts: ReplyPart[] = [...pieces.flatMap(piece => reader.push(piece)), ...reader.end()]
  const result: Read = { text: '', reasoning: '', calls: [] }
  for (const part of parts) {
    if (part.kind === 'text') result.text += part.text
    else if (part.kind === 'reasoning') result.reasoning += part.text
    else if (part.kind === 'call') {
      expect(part.index).toBe(result.calls.length)
      const { name, id } = part
      result.calls.push({ name, arguments: '', whole: false, ...(id !== undefined && { id }) })
    } else if (part.kind === 'arguments') result.calls[part.index]!.arguments += part.text
    else if (part.kind === 'called') result.calls[part.index]!.whole = true
    else result.text += part.text
  }
  return result
}

const weather = (city: string, days?: number) => ({
  name: 'weather',
  arguments: JSON.stringify({ city, ...(days !== undefined && { days }) }),
  whole: true
})
const REMINDER = {
  type: 'object',
  properties: {
    daily: { type: 'boolean' },
    until: { type: ['integer', 'null'] },
    from: { type: 'integer' },
    note: { type: 'string' },
    at: {}
  }
}
const ROME = '{"name": "weather", "arguments": {"city":"Rome"}}'
const OSLO = '{"name": "weather", "arguments": {"city":"Oslo","days":2}}'

/** Replies of each syntax: what is written, and what it says. */
const REPLIES: [syntax: CallSyntax, written: string, said: Partial<Read>, given?: Given][] = [
  ['hermes', `<tool_call>\n${ROME}\n</tool_call>`, { calls: [weather('Rome')] }],
  [
    'hermes',
    `I look.\n\n<tool_call>\n${ROME}\n</tool_call>\n<tool_call>\n${OSLO}\n</tool_call>`,
    { text: 'I look.', calls: [weather('Rome'), weather('Oslo', 2)] }
  ],
  [
    'hermes',
    `<think>\nWhich city?\n</think>\n\n<tool_call>${ROME}</tool_call>\nDone.`,
    { reasoning: 'Which city?', text: 'Done.', calls: [weather('Rome')] }
  ],
  ['hermes', 'Hm.\n</think>\n\nHello', { reasoning: 'Hm.', text: 'Hello' }, { isThinking: true }],
  ['hermes', '<think>\n\n</think>\n\nHello', { reasoning: '', text: 'Hello' }],
  ['hermes', 'Never closed ', { reasoning: 'Never closed', text: '' }, { isThinking: true }],
  ['hermes', `<tool_call>${ROME}`, { calls: [weather('Rome')] }],
  ['hermes', `<tool_call>${ROME.slice(0, -1)}`, { calls: [weather('Rome')] }],
  ['hermes', `<tool_call>${ROME}}</tool_call>`, { calls: [weather('Rome')] }],
  ['hermes', `<tool_call>${ROME}\n${OSLO}</tool_call>`, { calls: [weather('Rome'), weather('Oslo', 2)] }],
  [
    'hermes',
    '<tool_call>{"arguments": {"city":"Rome"}, "name": "weather"}</tool_call>',
    { calls: [weather('Rome')] }
  ],
  [
    'hermes',
    '<tool_call>{"name": "clock"}</tool_call>',
    { calls: [{ name: 'clock', arguments: '{}', whole: true }] }
  ],
  [
    'hermes',
    '<tool_call>{"name": "clock", "arguments": null}</tool_call>',
    { calls: [{ name: 'clock', arguments: '{}', whole: true }] }
  ],
  [
    'hermes',
    '<tool_call>{"type": "function", "function": {"name": "weather", "arguments": "{\\"city\\":\\"Rome\\"}"}}</tool_call>',
    { calls: [weather('Rome')] }
  ],
  // A line break in a string is no JSON; what was meant is clear.
  [
    'hermes',
    '<tool_call>{"name": "weather", "arguments": {"city":"Ro\nme"}}</tool_call>',
    { calls: [weather('Ro\nme')] }
  ],
  ['hermes', 'a <b> c', { text: 'a <b> c' }],
  ['hermes', 'x <tool_call>\nno JSON</tool_call>', { text: 'x <tool_call>\nno JSON</tool_call>' }],
  [
    'hermes',
    '<tool_call>{"name": "weather", "arguments": {"city" "Rome"}}</tool_call>',
    {
      text: '<tool_call>{"name": "weather", "arguments": {"city" "Rome"}}</tool_call>',
      calls: [{ name: 'weather', arguments: '{"city" ', whole: false }]
    }
  ],
  [
    'hermes',
    `<tool_call>${ROME}</tool_call>`,
    { text: `<tool_call>${ROME}</tool_call>` },
    { tools: new Map() }
  ],
  ['llama3', '{"name": "weather", "parameters": {"city":"Rome"}}', { calls: [weather('Rome')] }],
  [
    'llama3',
    '<|python_tag|>{"name": "weather", "parameters": {"city":"Rome"}}; {"name": "weather", "parameters": {"city":"Oslo","days":2}}',
    { calls: [weather('Rome'), weather('Oslo', 2)] }
  ],
  ['llama3', '{"name": "Bob", "age": 3}', { text: '{"name": "Bob", "age": 3}' }],
  ['llama3', '<|python_tag|>search("x")', { text: '<|python_tag|>search("x")' }],
  ['mistral', `[TOOL_CALLS] [${ROME}, ${OSLO}]`, { calls: [weather('Rome'), weather('Oslo', 2)] }],
  [
    'mistral',
    '[TOOL_CALLS][{"name": "weather", "id": "abcdefghi", "arguments": {"city":"Rome"}}]',
    { calls: [weather('Rome')] }
  ],
  [
    'mistral',
    'Yes.[TOOL_CALLS]weather[ARGS]{"city":"Rome"}[TOOL_CALLS]clock[CALL_ID]123456789[ARGS]{}',
    { text: 'Yes.', calls: [weather('Rome'), { name: 'clock', arguments: '{}', whole: true }] }
  ],
  ['mistral', '[TOOL_CALLS]no call at all', { text: '[TOOL_CALLS]no call at all' }],
  [
    'harmony',
    '<|channel|>analysis<|message|>Which city?<|end|><|start|>assistant<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city":"Rome"}<|call|>',
    { reasoning: 'Which city?', calls: [weather('Rome')] }
  ],
  [
    'harmony',
    '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Hello <b>you</b><|return|>',
    { reasoning: 'Hm.', text: 'Hello <b>you</b>' },
    { tools: new Map() }
  ],
  [
    'harmony',
    '<|start|>assistant to=functions.weather<|channel|>commentary json<|message|>{"city":"Rome"}',
    { calls: [weather('Rome')] }
  ],
  ['harmony', 'Plain text', { text: 'Plain text' }],
  // What a model says before it calls is for the user to read.
  [
    'harmony',
    '<|channel|>commentary<|message|>I look.<|end|><|start|>assistant<|channel|>commentary to=functions.clock<|message|>{}<|call|>',
    { text: 'I look.', calls: [{ name: 'clock', arguments: '{}', whole: true }] }
  ],
  // A tool's name alone is one, too.
  [
    'harmony',
    '<|channel|>commentary to=weather <|constrain|>json<|message|>{"city":"Rome"}<|call|>',
    { calls: [weather('Rome')] }
  ],
  // What goes to tools that nobody has is no answer.
  [
    'harmony',
    '<|channel|>commentary to=python code<|message|>1 + 1<|call|><|start|>assistant<|channel|>final<|message|>2<|return|>',
    { reasoning: '1 + 1', text: '2' }
  ],
  [
    'harmony',
    '<|channel|>analysis to=browser.search code<|message|>{"query":"Rome"}<|call|>',
    { reasoning: '{"query":"Rome"}' }
  ],
  // Without tools nothing is a call.
  [
    'harmony',
    '<|channel|>commentary to=functions.weather json<|message|>{"city":"Rome"}<|call|>',
    { text: '{"city":"Rome"}' },
    { tools: new Map() }
  ],
  // The reply was cut off where a message begins.
  [
    'harmony',
    '<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>fin',
    { reasoning: 'Hm.' }
  ],
  ['harmony', '<|channel|>anal', {}],
  [
    'deepseek',
    '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n```json\n{"city":"Rome"}\n```<｜tool▁call▁end｜>\n<｜tool▁call▁begin｜>function<｜tool▁sep｜>clock\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    { calls: [weather('Rome'), { name: 'clock', arguments: '{}', whole: true }] }
  ],
  [
    'deepseek',
    'Yes.<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>weather<｜tool▁sep｜>{"city":"Rome"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    { text: 'Yes.', calls: [weather('Rome')] }
  ],
  [
    'glm',
    '<think>Hm</think>\nI look.\n<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Oslo</arg_value>\n<arg_key>days</arg_key>\n<arg_value>2</arg_value>\n</tool_call>',
    { reasoning: 'Hm', text: 'I look.', calls: [weather('Oslo', 2)] }
  ],
  // A text stays one though it looks like a number.
  [
    'glm',
    '<tool_call>weather<arg_key>city</arg_key><arg_value>12</arg_value></tool_call>',
    { calls: [weather('12')] }
  ],
  ['glm', '<tool_call>clock\n</tool_call>', { calls: [{ name: 'clock', arguments: '{}', whole: true }] }],
  [
    'parameters',
    '<think>\nHm\n</think>\n\nI look.\n\n<tool_call>\n<function=weather>\n<parameter=city>\nOslo\n</parameter>\n<parameter=days>\n2\n</parameter>\n</function>\n</tool_call>',
    { reasoning: 'Hm', text: 'I look.', calls: [weather('Oslo', 2)] }
  ],
  [
    'parameters',
    '<seed:tool_call>\n<function=weather>\n<parameter=city>12</parameter>\n</function>\n</seed:tool_call>',
    { calls: [weather('12')] }
  ],
  [
    'parameters',
    '<tool_call><function=clock></function></tool_call>',
    { calls: [{ name: 'clock', arguments: '{}', whole: true }] }
  ],
  ['parameters', "<tool_call>no name, that's it", { text: "<tool_call>no name, that's it" }],
  [
    'parameters',
    '<tool_call><function=remind><parameter=daily>True</parameter><parameter=until>None</parameter>' +
      '<parameter=from>constructor</parameter>' +
      '<parameter=note>True</parameter><parameter=at>None</parameter></function></tool_call>',
    {
      calls: [
        {
          name: 'remind',
          arguments: '{"daily":true,"until":null,"from":"constructor","note":"True","at":"None"}',
          whole: true
        }
      ]
    },
    { tools: new Map([['remind', REMINDER]]) }
  ],
  [
    'parameters',
    '<tool_call><function=weather> and what it does. <tool_call><function=clock></function></tool_call>',
    {
      text: '<tool_call><function=weather> and what it does.',
      calls: [{ name: 'clock', arguments: '{}', whole: true }]
    }
  ],
  ['glm', "<tool_call>no name, that's it", { text: "<tool_call>no name, that's it" }],
  ['json', ROME, { calls: [weather('Rome')] }],
  ['json', `[${ROME},\n ${OSLO}]`, { calls: [weather('Rome'), weather('Oslo', 2)] }],
  ['json', `${ROME}\n${OSLO}`, { calls: [weather('Rome'), weather('Oslo', 2)] }],
  ['json', `<tool_call>${ROME}</tool_call>`, { calls: [weather('Rome')] }],
  ['json', `<think>Hm</think>\n\n${ROME}`, { reasoning: 'Hm', calls: [weather('Rome')] }],
  ['json', '[1, 2]', { text: '[1, 2]' }],
  // White space of other alphabets.
  [
    'json',
    '{"name":\u3000"weather",\u00a0"arguments": {"city":\u3000"Rome"}}',
    { calls: [{ name: 'weather', arguments: '{"city": "Rome"}', whole: true }] }
  ],
  ['json', '  {"a": 1}  then more', { text: '  {"a": 1}  then more' }],
  ['json', 'No call: {"name": "weather"}', { text: 'No call: {"name": "weather"}' }]
]

describe.each(REPLIES)('%s: %j', (syntax, written, said, given) => {
  const expected: Read = { text: '', reasoning: '', calls: [], ...said }

  test('is read', () => {
    const { calls, ...rest } = read(syntax, [written], given)
    expect({ ...rest, calls: calls.map(({ id: _, ...call }) => call) }).toEqual(expected)
  })

  test('is read alike however it is cut', () => {
    const whole = read(syntax, [written], given)
    expect(read(syntax, [...written], given)).toEqual(whole)
    for (let at = 0; at <= written.length; at++) {
      expect(read(syntax, [written.slice(0, at), written.slice(at)], given)).toEqual(whole)
    }
  })
})

/** Pieces of what models write, put together in any order. */
const SNIPPETS = [
  ...['<think>', '</think>', '<tool_call>', '</tool_call>', '[TOOL_CALLS]', '[ARGS]', '<|python_tag|>'],
  ...[
    '<|channel|>',
    'analysis',
    'final',
    'commentary to=functions.weather',
    '<|message|>',
    '<|end|>',
    '<|start|>'
  ],
  ...[
    '<｜tool▁calls▁begin｜>',
    '<｜tool▁call▁begin｜>',
    'function<｜tool▁sep｜>',
    '```json\n',
    '<｜tool▁call▁end｜>'
  ],
  ...[
    '<function=weather>',
    '<parameter=city>',
    '</parameter>',
    '</function>',
    '<seed:tool_call>',
    '</seed:tool_call>'
  ],
  ...[
    '<arg_key>',
    'city',
    '</arg_key>',
    '<arg_value>',
    '</arg_value>',
    ROME,
    OSLO,
    '{"city":"Rome"}',
    '{}',
    '}'
  ],
  ...[
    '[',
    ']',
    ',',
    ';',
    ' ',
    '\n',
    'weather',
    'text',
    '"',
    '\\',
    '{"name": "weather", "arguments": {"a": [1, tru'
  ]
]
const SYNTAXES: CallSyntax[] = [
  'hermes',
  'llama3',
  'mistral',
  'harmony',
  'deepseek',
  'glm',
  'parameters',
  'json'
]

test('whatever is written in any syntax is read alike however it is cut, and whole calls have arguments that are objects', () => {
  const replies = fc.record({
    syntax: fc.constantFrom(...SYNTAXES),
    pieces: fc.array(fc.oneof(fc.constantFrom(...SNIPPETS), fc.string({ maxLength: 6 })), { maxLength: 12 }),
    cuts: fc.array(fc.nat({ max: 300 }), { maxLength: 8 }),
    isThinking: fc.boolean()
  })
  fc.assert(
    fc.property(replies, ({ syntax, pieces, cuts, isThinking }) => {
      const written = pieces.join('')
      const whole = read(syntax, [written], { isThinking })
      const at = [0, ...cuts.filter(cut => cut < written.length).sort((a, b) => a - b), written.length]
      const cut = at.slice(1).map((end, i) => written.slice(at[i], end))
      expect(read(syntax, cut, { isThinking })).toEqual(whole)
      expect(read(syntax, [...written], { isThinking })).toEqual(whole)
      for (const call of whole.calls) {
        if (call.whole) expect(JSON.parse(call.arguments)).toBeTypeOf('object')
      }
    }),
    { numRuns: 3_000 }
  )
})

test('nothing of a text is lost that is no call', () => {
  fc.assert(
    fc.property(fc.constantFrom(...SYNTAXES), fc.string({ maxLength: 40 }), (syntax, written) => {
      const { text, calls } = read(syntax, [written], { tools: TOOLS })
      if (calls.length === 0 && !written.includes('<|')) expect(text).toBe(written)
    })
  )
})

test('arguments come while they are written', () => {
  const reader = new ReplyReader({
    syntax: { calls: 'hermes', thoughts: undefined },
    tools: TOOLS,
    isThinking: false
  })
  expect(reader.push('<tool_call>{"name": "weather", "arguments": {"ci')).toEqual([
    { kind: 'call', index: 0, name: 'weather' },
    { kind: 'arguments', index: 0, text: '{"ci' }
  ])
  expect(reader.push('ty": "Rome"}')).toEqual([{ kind: 'arguments', index: 0, text: 'ty": "Rome"}' }])
  expect(reader.push('}</tool_call>')).toEqual([{ kind: 'called', index: 0 }])
})

/** A reader of a syntax in which a reply comes a word at a time. */
const readerOf = (calls: CallSyntax) =>
  new ReplyReader({ syntax: { calls, thoughts: undefined }, tools: TOOLS, isThinking: false })
const shownOf = (parts: readonly ReplyPart[]) => parts.map(part => ('text' in part ? part.text : '')).join('')

test.each<[CallSyntax, string]>([
  ['glm', '<tool_call>'],
  ['parameters', '<tool_call>'],
  ['glm', '<tool_call>clock\n<arg_key>a</arg_key><arg_value>1</arg_value>'],
  ['parameters', '<tool_call><function=clock><parameter=a>1</parameter>']
])('%s: what stands behind %s and is no call is shown while it is written', (syntax, opened) => {
  const reader = readerOf(syntax)
  reader.push(opened)
  const shown = Array.from({ length: 200 }, () => shownOf(reader.push('a word '))).join('')
  expect(shown.length).toBeGreaterThan(700)
})

test.each<[CallSyntax, string, string]>([
  ['glm', '<tool_call>weather\n<arg_key>city</arg_key><arg_value>', '</arg_value></tool_call>'],
  ['parameters', '<tool_call><function=weather><parameter=city>', '</parameter></function></tool_call>']
])('%s: a value is not read from its start again with each word of it', (syntax, before, behind) => {
  const exec = vi.spyOn(RegExp.prototype, 'exec')
  try {
    const reader = readerOf(syntax)
    const pieces = [before, ...Array.from({ length: 500 }, () => 'a > b '), behind]
    const parts = pieces.flatMap(piece => reader.push(piece))
    const times = exec.mock.calls.length
    expect(parts.at(-1)).toEqual({ kind: 'called', index: 0 })
    expect(times).toBeLessThan(50)
  } finally {
    exec.mockRestore()
  }
})
