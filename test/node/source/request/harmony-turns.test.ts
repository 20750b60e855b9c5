import { describe, expect, test } from 'vitest'
import { syntaxOf } from '../../../../models/reply/syntax.ts'
import { chatTemplate } from '../../../../models/tokenizer/chat-template.ts'
import type { Tokenizer } from '../../../../models/tokenizer/tokenizer.ts'
import type { ChatInput, ChatMessage } from '../../../../node/api.ts'
import { conversationFor } from '../../../../node/source/request/conversation.ts'
import { harmonyTurns } from '../../../../node/source/request/harmony-turns.ts'
import { encodePrompt } from '../../../../node/source/request/prompt.ts'

/** What gpt-oss's template does with turns, in short: where it refuses, takes the first of several, and passes over. */
const TEMPLATE = `
{%- if messages[0].role == "developer" or messages[0].role == "system" -%}
  {%- set developer = messages[0].content -%}{%- set turns = messages[1:] -%}
{%- else -%}
  {%- set developer = "" -%}{%- set turns = messages -%}
{%- endif -%}
{{- "<|start|>system<|message|>Reasoning: " + (reasoning_effort or "medium") + "<|end|>" -}}
{%- if developer or tools -%}
  {{- "<|start|>developer<|message|>" + developer -}}
  {%- for tool in tools or [] -%}{{- "// " + tool.function.description + "type " + tool.function.name -}}{%- endfor -%}
  {{- "<|end|>" -}}
{%- endif -%}
{%- set last = namespace(name=none) -%}
{%- for message in turns -%}
  {%- if message.role == "assistant" and "tool_calls" in message -%}
    {%- if message.content and message.thinking -%}{{- raise_exception("both content and thinking") -}}{%- endif -%}
    {%- if message.thinking -%}
      {{- "<|start|>assistant<|channel|>analysis<|message|>" + message.thinking + "<|end|>" -}}
    {%- endif -%}
    {%- set call = message.tool_calls[0].function -%}
    {{- "<|start|>assistant to=functions." + call.name + "<|message|>" + call.arguments|tojson + "<|call|>" -}}
    {%- set last.name = call.name -%}
  {%- elif message.role == "assistant" -%}
    {{- "<|start|>assistant<|channel|>final<|message|>" + message.content + "<|end|>" -}}
  {%- elif message.role == "tool" -%}
    {{- "<|start|>functions." + last.name + " to=assistant<|message|>" + message.content|tojson + "<|end|>" -}}
  {%- elif message.role == "user" -%}
    {{- "<|start|>user<|message|>" + message.content + "<|end|>" -}}
  {%- endif -%}
{%- endfor -%}
<|start|>assistant`

const user = (content: string): ChatMessage => ({ role: 'user', content })
const call = (id: string, name: string) => ({ id, name, arguments: '{"a":1}' })
const result = (content: string, toolCallId?: string): ChatMessage => ({
  role: 'tool',
  content,
  ...(toolCallId !== undefined && { toolCallId })
})

function rendered(messages: ChatMessage[], input: Partial<ChatInput> = {}): string {
  const { messages: turns, args } = conversationFor(TEMPLATE, syntaxOf(TEMPLATE), {
    kind: 'chat',
    messages,
    ...input
  })
  return chatTemplate({}, { chat_template: TEMPLATE })!.render(turns, true, args)
}

describe('a conversation for gpt-oss', () => {
  test('has all instructions, wherever they stand', () => {
    const text = rendered([
      { role: 'system', content: 'Be brief.' },
      { role: 'developer', content: 'Use metres.' },
      user('How far?'),
      { role: 'assistant', content: 'Far.' },
      { role: 'system', content: 'Now in feet.' },
      user('And up?')
    ])
    expect(text).toContain('<|start|>developer<|message|>Be brief.\n\nUse metres.<|end|>')
    expect(text).toContain('<|start|>user<|message|>Now in feet.\n\nAnd up?<|end|>')
    expect(rendered([user('Hi'), { role: 'developer', content: 'Answer now.' }])).toContain(
      '<|start|>user<|message|>Answer now.<|end|>'
    )
    expect(harmonyTurns([{ role: 'system', content: 'Hm.' }])).toEqual([
      { role: 'developer', content: 'Hm.' }
    ])
    expect(harmonyTurns([])).toEqual([])
  })

  test('has one call a turn, with its own result behind it, and the thoughts once', () => {
    const text = rendered([
      user('Rome?'),
      {
        role: 'assistant',
        content: 'I look.',
        reasoning: 'Both, I think.',
        toolCalls: [call('c1', 'weather'), call('c2', 'clock')]
      },
      result('12:00', 'c2'),
      result('rain', 'c1')
    ])
    expect(text).toContain(
      [
        '<|start|>assistant<|channel|>analysis<|message|>Both, I think.\n\nI look.<|end|>',
        '<|start|>assistant to=functions.weather<|message|>{"a": 1}<|call|>',
        '<|start|>functions.weather to=assistant<|message|>"rain"<|end|>',
        '<|start|>assistant to=functions.clock<|message|>{"a": 1}<|call|>',
        '<|start|>functions.clock to=assistant<|message|>"12:00"<|end|>'
      ].join('')
    )
  })

  test('has results without an id in their order, and loses none', () => {
    const turns = harmonyTurns([
      { role: 'assistant', content: '', toolCalls: [call('c1', 'f'), call('c2', 'g')] },
      result('one'),
      result('two'),
      result('three', 'c9')
    ])
    expect(turns.map(({ role, content, toolCalls }) => toolCalls?.[0]?.name ?? `${role} ${content}`)).toEqual(
      ['f', 'tool one', 'g', 'tool two', 'tool three']
    )
  })

  test('takes tools without a description, and says that thinking cannot be switched off', () => {
    expect(rendered([user('Hi')], { tools: [{ name: 'clock' }] })).toContain('// type clock')
    expect(rendered([user('Hi')], { thinking: 'high' })).toContain('Reasoning: high')
    const off = conversationFor(TEMPLATE, syntaxOf(TEMPLATE), {
      kind: 'chat',
      messages: [user('Hi')],
      thinking: false
    })
    expect(off).toMatchObject({ args: {}, unread: ['thinking'] })
  })
})

test('an answer that is held to a form is its final channel from the first character on', async () => {
  const asked: (string | undefined)[] = []
  const tokenizer = {
    chatTemplate: TEMPLATE,
    encodeChat: async (_: unknown, options: { behind?: string } = {}) => {
      asked.push(options.behind)
      return [1]
    }
  } as unknown as Tokenizer
  const encode = async (chat: string, held: boolean, split: boolean) => {
    const input = { kind: 'chat' as const, messages: [user('Hi')], split }
    const model = { tokenizer: { ...tokenizer, chatTemplate: chat }, name: 'x' }
    const { reader } = await encodePrompt(model, input, new AbortController().signal, held)
    return reader === undefined ? undefined : [...reader.push('{"a": 1}'), ...reader.end()]
  }
  expect(await encode(TEMPLATE, true, true)).toEqual([{ kind: 'text', text: '{"a": 1}' }])
  expect(await encode(TEMPLATE, true, false)).toBeUndefined()
  await encode(TEMPLATE, false, true)
  await encode('{{ messages }}', true, true)
  expect(asked).toEqual(['<|channel|>final<|message|>', '<|channel|>final<|message|>', undefined, undefined])
})
