import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { syntaxOf } from '../../../../models/reply/syntax.ts'
import { chatTemplate } from '../../../../models/tokenizer/chat-template.ts'
import type { ChatInput, ChatMessage } from '../../../../node/api.ts'
import { conversationFor } from '../../../../node/source/request/conversation.ts'
import { hasSharedData, sharedData } from '../../../fixtures/shared-data.ts'

const TOOLS = [
  { name: 'weather', description: 'How it is outside', parameters: { type: 'object', properties: {} } }
]
const TALK: ChatMessage[] = [
  { role: 'user', content: 'Rome?' },
  {
    role: 'assistant',
    content: '',
    toolCalls: [{ id: 'call_1', name: 'weather', arguments: '{"city":"Rome"}' }]
  },
  { role: 'tool', content: 'rain', toolCallId: 'call_1', name: 'weather' }
]

const conversation = (template: string, input: Partial<ChatInput>) =>
  conversationFor(template, syntaxOf(template), { kind: 'chat', messages: TALK, ...input })

/** What a model reads. */
function rendered(template: string, input: Partial<ChatInput>): string {
  const { messages, args } = conversation(template, input)
  return chatTemplate({}, { chat_template: template })!.render(messages, true, args)
}

const PLAIN = '{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}'
const NAMING = `${PLAIN}{% if tools %}{{ tools | tojson }}{% endif %}`

describe('tools', () => {
  test('go to a template that names them, as transformers has them', () => {
    const { args, tools } = conversation(NAMING, { tools: TOOLS })
    expect(tools).toBe('template')
    expect(args).toEqual({ tools: [{ type: 'function', function: TOOLS[0] }] })
    expect(conversation(NAMING, {})).toMatchObject({ tools: null, args: {} })
  })

  test('stand in the system turn for a template that does not, and so do calls and results as text', () => {
    const input = { messages: [{ role: 'system', content: 'Be brief.' }, ...TALK], tools: TOOLS }
    expect(conversation(PLAIN, input).tools).toBe('generic')
    const text = rendered(PLAIN, input)
    expect(text).toMatch(/^\[system\]Be brief\.\n\nYou can call functions\./)
    expect(text).toContain('\n{"name":"weather","description":"How it is outside","parameters":')
    expect(text).toContain('[assistant]{"name": "weather", "arguments": {"city":"Rome"}}')
    expect(text).toContain('[user]Result of weather: rain')
    // The words "all your tools" in a text are no use of them.
    expect(conversation('all your tools {{ messages }}', { tools: TOOLS }).tools).toBe('generic')
  })

  test('results of several calls are one turn of the user', () => {
    const messages = [...TALK, { role: 'tool', content: '12:00', name: 'clock' }]
    expect(rendered(PLAIN, { messages })).toMatch(/\[user\]Result of weather: rain\nResult of clock: 12:00$/)
  })

  test('arguments are an object, or a text where the template puts texts together', () => {
    const argumentsOf = (template: string, messages = TALK) =>
      conversation(template, { messages }).messages[1]!.tool_calls![0]!.function.arguments
    expect(argumentsOf(NAMING)).toEqual({ city: 'Rome' })
    const deepseek = "{{ tools }}{{ '```json' + '\\n' + tool['function']['arguments'] + '```' }}"
    expect(argumentsOf(deepseek)).toBe('{"city":"Rome"}')
    // What is no JSON, or has no end, stays what it is.
    for (const odd of ['{"city"', `${'['.repeat(5_000)}${']'.repeat(5_000)}`]) {
      const call = { id: 'c', name: 'weather', arguments: odd }
      const talk = [TALK[0]!, { role: 'assistant', content: '', toolCalls: [call] }]
      expect(argumentsOf(NAMING, talk)).toBe(odd)
    }
  })

  test('Mistral’s templates get ids that they take, the same for a call and its result', () => {
    const { messages } = conversation(`${NAMING}[TOOL_CALLS]`, {})
    const id = messages[1]!.tool_calls![0]!.id
    expect(id).toMatch(/^[a-zA-Z0-9]{9}$/)
    expect(messages[2]!.tool_call_id).toBe(id)
  })
})

describe('roles and switches', () => {
  test('a developer’s turn is the system’s where the template has no such role', () => {
    const messages = [
      { role: 'system', content: 'a' },
      { role: 'developer', content: 'b' },
      { role: 'user', content: 'c' }
    ]
    expect(rendered(PLAIN, { messages })).toBe('[system]a\n\nb[user]c')
    expect(rendered(PLAIN, { messages: messages.slice(1) })).toBe('[system]b[user]c')
    const knowing = `{# developer #}${PLAIN}`
    expect(rendered(knowing, { messages })).toBe('[system]a[developer]b[user]c')
  })

  test('thinking is said in the template’s own words, or named as unread', () => {
    const qwen = `${PLAIN}{% if enable_thinking is defined and not enable_thinking %}!{% endif %}`
    expect(rendered(qwen, { thinking: false })).toMatch(/!$/)
    expect(rendered(qwen, { thinking: true })).not.toMatch(/!$/)
    expect(conversation(`{{ reasoning_effort }}${PLAIN}`, { thinking: 'low' }).args).toEqual({
      reasoning_effort: 'low'
    })
    expect(conversation(PLAIN, { thinking: false }).unread).toEqual(['thinking'])
    const given = { templateArguments: { enable_thinking: false, colour: 'red' } }
    expect(conversation(qwen, given)).toMatchObject({
      args: { enable_thinking: false, colour: 'red' },
      unread: ['colour']
    })
  })

  test('thinking is turned off by a budget of nothing, or by a mark that the template looks for', () => {
    const seed = `${PLAIN}{% if thinking_budget == 0 %}!{% endif %}`
    expect(rendered(seed, { thinking: false })).toMatch(/!$/)
    expect(rendered(seed, { thinking: true })).not.toMatch(/!$/)
    expect(conversation(seed, { thinking: true }).unread).toEqual([])
    const nemotron = `{% if '/no_think' in messages[-1].content %}!{% endif %}${PLAIN}`
    expect(rendered(nemotron, { thinking: false })).toMatch(/^!.* \/no_think$/)
    expect(rendered(nemotron, { thinking: true })).toMatch(/^[^!].* \/think$/)
    expect(conversation(nemotron, { thinking: false }).unread).toEqual([])
    // A template that tells its model of the mark takes none out.
    expect(conversation(`say '/no_think'${PLAIN}`, { thinking: false }).unread).toEqual(['thinking'])
  })

  test('a thought of before is the template’s to keep', () => {
    const messages = [{ role: 'assistant', content: 'x', reasoning: 'Hm.' }]
    expect(rendered('{{ messages[0].reasoning_content }}', { messages })).toBe('Hm.')
    expect(rendered(PLAIN, { messages })).toBe('[assistant]x')
  })
})

describe.skipIf(!hasSharedData)('published templates', () => {
  const template = (name: string) =>
    (
      JSON.parse(readFileSync(sharedData(`configs/${name}-tokenizer_config.json`), 'utf8')) as {
        chat_template: string
      }
    ).chat_template

  test('Qwen 2.5’s teaches Hermes’ syntax, and shows calls and results in it', () => {
    const source = template('Qwen2.5')
    expect(syntaxOf(source).calls).toBe('hermes')
    const text = rendered(source, { tools: TOOLS })
    expect(text).toContain('<tools>\n{"type": "function", "function": {"name": "weather"')
    expect(text).toContain('<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call>')
    expect(text).toContain('<tool_response>\nrain\n</tool_response>')
  })

  test('a developer is heard by Qwen 2.5, whose template drops the role', () => {
    const messages = [
      { role: 'developer', content: 'Speak like a pirate.' },
      { role: 'user', content: 'Hi' }
    ]
    expect(rendered(template('Qwen2.5'), { messages })).toContain('system\nSpeak like a pirate.')
  })
})
