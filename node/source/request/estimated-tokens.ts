import type { GenerateRequest } from '../../api.ts'

/** Bytes of a token: of English four to five, of Chinese or Japanese three, of code somewhat fewer. */
const BYTES_PER_TOKEN = 3
/** What a template puts around a message, and before all of them. */
const TOKENS_PER_MESSAGE = 16

/** How many tokens a prompt has, before there is a tokenizer: rather more than fewer, as a placement needs room for all. */
export function estimatedTokens(input: GenerateRequest['input']): number {
  if (input.kind === 'ids') return Math.max(1, input.ids.length)
  if (input.kind === 'raw') return tokensOf(input.text)
  const { messages, tools = [] } = input
  const said = [...messages, ...tools].map(each => tokensOf(JSON.stringify(each)) + TOKENS_PER_MESSAGE)
  return said.reduce((sum, tokens) => sum + tokens, TOKENS_PER_MESSAGE)
}

function tokensOf(text: string): number {
  return Math.max(1, Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN))
}
