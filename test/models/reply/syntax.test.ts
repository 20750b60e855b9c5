import { expect, test } from 'vitest'
import { namesTools, reads, syntaxOf, writtenTokens } from '../../../models/reply/syntax.ts'

const TOOLS = '{% if tools %}{{ tools | tojson }}{% endif %}'

test.each([
  ['<tool_call>\n{"name": <function-name>}\n</tool_call>', 'hermes'],
  [
    'Respond in the format {"name": function name, "parameters": dictionary of argument name and its value}',
    'llama3'
  ],
  ['{{- "<|python_tag|>" + message.content }}', 'llama3'],
  ["{{- '[TOOL_CALLS] [' }}", 'mistral'],
  ["{{'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + tool['type']}}", 'deepseek'],
  ['<tool_call>{function-name}\n<arg_key>{arg-key-1}</arg_key>', 'glm'],
  ['<tool_call>\n<function=example>\n<parameter=key>\nvalue\n</parameter>\n</function>', 'parameters'],
  ['<|start|>assistant<|channel|>final<|message|>', 'harmony'],
  ['nothing of the kind', 'json']
])('a template with %s teaches %s', (taught, syntax) => {
  expect(syntaxOf(TOOLS + taught).calls).toBe(syntax)
})

test('a template that knows no tools teaches no calls, whatever marks it writes', () => {
  expect(syntaxOf('{{ messages }}<tool_call>').calls).toBe('json')
  // Channels separate thoughts from answers, tools or not.
  expect(syntaxOf('{{ messages }}<|channel|>').calls).toBe('harmony')
})

test('thoughts stand between the marks that a template knows', () => {
  expect(syntaxOf("{{ content.split('</think>')[-1] }}").thoughts).toEqual(['<think>', '</think>'])
  expect(syntaxOf('[THINK]{{ x }}[/THINK]').thoughts).toEqual(['[THINK]', '[/THINK]'])
  expect(syntaxOf("{%- set end = '</seed:think>' -%}").thoughts).toEqual(['<seed:think>', '</seed:think>'])
  expect(syntaxOf('{{ messages }}').thoughts).toBeUndefined()
})

test('a word counts where something is computed with it, by itself', () => {
  expect(reads('{% if enable_thinking is defined %}', 'enable_thinking')).toBe(true)
  expect(reads('say enable_thinking', 'enable_thinking')).toBe(false)
  expect(reads('{{ message.thinking }}', 'thinking')).toBe(false)
  expect(reads('{{ enable_thinking }}', 'thinking')).toBe(false)
  expect(reads('{% if "thinking" in message %}', 'thinking')).toBe(false)
  expect(reads("{{ 'it\\'s thinking' + thinking }}", 'thinking')).toBe(true)
  expect(reads("{{ 'it\\'s thinking' + x }}", 'thinking')).toBe(false)
  expect(reads('{{ a }}', '(')).toBe(false)
  expect(reads('{{ abc }}', 'a.c')).toBe(false)
  expect(namesTools('{%- for t in tools %}')).toBe(true)
  expect(namesTools('{{ my_tools }}')).toBe(false)
  // A million beginnings without an end: looked at once.
  expect(namesTools(`${'{%'.repeat(1 << 20)} tools`)).toBe(false)
  expect(namesTools(`{% if a %}${'x'.repeat(1 << 20)}{{ tools }}`)).toBe(true)
})

test('control tokens are read as text only where they mean something', () => {
  const mistral = syntaxOf(`${TOOLS}[TOOL_CALLS]`)
  expect(writtenTokens(mistral, true)).toContain('[TOOL_CALLS]')
  expect(writtenTokens(mistral, false)).toEqual([])
  expect(writtenTokens(syntaxOf('<|channel|></think>'), false)).toEqual(
    expect.arrayContaining(['<|message|>', '<think>'])
  )
})
