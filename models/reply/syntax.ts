import type { CallSyntax, ReplySyntax } from './parts.ts'

/** What a template that teaches a syntax has in it. The first that is found decides: GLM's and Qwen3.5's have Hermes' mark, too. */
const MARKS: [mark: string, syntax: CallSyntax][] = [
  ['<|channel|>', 'harmony'],
  ['<｜tool▁call▁begin｜>', 'deepseek'],
  ['<arg_key>', 'glm'],
  ['<parameter=', 'parameters'],
  ['[TOOL_CALLS]', 'mistral'],
  ['<tool_call>', 'hermes'],
  ['<|python_tag|>', 'llama3'],
  ['"parameters": dictionary', 'llama3']
]
const THOUGHTS: [open: string, close: string][] = [
  ['<think>', '</think>'],
  ['[THINK]', '[/THINK]'],
  ['<seed:think>', '</seed:think>']
]

/** Control tokens that a syntax is written with, which are no text otherwise. */
const WRITTEN: Record<CallSyntax, readonly string[]> = {
  hermes: ['<tool_call>', '</tool_call>'],
  llama3: ['<|python_tag|>'],
  mistral: ['[TOOL_CALLS]', '[ARGS]', '[CALL_ID]'],
  harmony: ['<|channel|>', '<|message|>', '<|start|>', '<|end|>', '<|constrain|>', '<|call|>', '<|return|>'],
  deepseek: [
    ...['<｜tool▁calls▁begin｜>', '<｜tool▁call▁begin｜>', '<｜tool▁sep｜>'],
    ...['<｜tool▁call▁end｜>', '<｜tool▁calls▁end｜>']
  ],
  glm: ['<tool_call>', '</tool_call>', '<arg_key>', '</arg_key>', '<arg_value>', '</arg_value>'],
  parameters: ['<tool_call>', '</tool_call>', '<seed:tool_call>', '</seed:tool_call>'],
  json: []
}

/** How the model of this chat template writes thoughts and calls. */
export function syntaxOf(template: string): ReplySyntax {
  const calls = namesTools(template) ? MARKS.find(([mark]) => template.includes(mark))?.[1] : undefined
  return {
    // Harmony separates thoughts from answers, tools or not.
    calls: template.includes('<|channel|>') ? 'harmony' : (calls ?? 'json'),
    thoughts: THOUGHTS.find(([, close]) => template.includes(close))
  }
}

/** Texts within what a template computes. */
const TEXTS = /'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"/gs

/** What an answer begins with whose form is told from its first character: of channels the one that it is for. */
export function openingOf({ calls }: ReplySyntax): string | undefined {
  return calls === 'harmony' ? '<|channel|>final<|message|>' : undefined
}

/** Whether a template does something with the definitions of tools. */
export function namesTools(template: string): boolean {
  return reads(template, 'tools')
}

/** Whether a template has a word in what it computes, as against the text that it writes. */
export function reads(template: string, word: string): boolean {
  // Whoever asks names the arguments, so a word may be any text.
  const pattern = new RegExp(`(?<![\\w.])${word.replace(/[\\^$.*+?()[\]{}|/]/g, '\\$&')}(?!\\w)`)
  return codeOf(template).some(code => pattern.test(code.replace(TEXTS, "''")))
}

/** What a template computes, each piece with its braces. A piece that is not closed is none, and neither is what follows it. */
function codeOf(template: string): string[] {
  const code: string[] = []
  const open = /\{[{%]/g
  const close = /[%}]\}/g
  for (;;) {
    const begin = open.exec(template)
    if (begin === null) return code
    close.lastIndex = begin.index + 2
    const end = close.exec(template)
    if (end === null) return code
    open.lastIndex = close.lastIndex
    code.push(template.slice(begin.index, close.lastIndex))
  }
}

/** Control tokens that have to be read as text for thoughts, and calls where there are tools, to be seen. */
export function writtenTokens({ calls, thoughts }: ReplySyntax, hasTools: boolean): readonly string[] {
  return [...(hasTools || calls === 'harmony' ? WRITTEN[calls] : []), ...(thoughts ?? [])]
}
