import type { ReplySyntax } from '../../../models/reply/parts.ts'
import { ReplyReader } from '../../../models/reply/reader.ts'
import { openingOf, syntaxOf, writtenTokens } from '../../../models/reply/syntax.ts'
import type { Tokenizer } from '../../../models/tokenizer/tokenizer.ts'
import type { ChatInput, GenerateRequest } from '../../api.ts'
import { RequestError } from '../../errors.ts'
import { conversationFor } from './conversation.ts'

/** A prompt in tokens, and how what follows it is to be read. */
export interface Prompt {
  ids: number[]
  /** The answer goes on from the prompt's text, as against a turn of a conversation. */
  continued: boolean
  /** How the reply to a conversation is written. */
  syntax?: ReplySyntax
  /** Takes the reply apart, where that was asked. */
  reader?: ReplyReader
  /** Control tokens that it reads. */
  shown?: readonly string[]
  /** The reply ends behind its first call. */
  oneCall?: boolean
  /** What is said of the conversation then. */
  said?: { tools: 'template' | 'generic' | null; unread: string[] }
}

/**
 * @param held the answer is held to a form
 * @throws {RequestError} {ChatTemplateError} for what the model does not take
 */
export async function encodePrompt(
  { tokenizer, name }: { tokenizer: Tokenizer; name: string },
  input: GenerateRequest['input'],
  signal: AbortSignal,
  held = false
): Promise<Prompt> {
  const raw = async (text: string) => ({ ids: await tokenizer.encode(text, { signal }), continued: true })
  if (input.kind === 'raw') return await raw(input.text)
  if (input.kind === 'ids') return { ids: checkedIds(input.ids, tokenizer.vocabSize), continued: true }
  if (tokenizer.chatTemplate !== null) {
    return await encodeConversation(tokenizer, tokenizer.chatTemplate, input, signal, held)
  }
  const [only, ...others] = input.messages
  const hasTools = input.tools !== undefined && input.tools.length > 0
  if (only?.role === 'user' && others.length === 0 && !hasTools) {
    const said = input.split === true ? { said: { tools: null, unread: [] } } : {}
    return { ...(await raw(only.content)), ...said }
  }
  throw new RequestError(
    `${name} has no chat template, so it takes a single prompt, and neither a conversation nor tools`,
    'messages'
  )
}

async function encodeConversation(
  tokenizer: Tokenizer,
  template: string,
  input: ChatInput,
  signal: AbortSignal,
  held: boolean
): Promise<Prompt> {
  const syntax = syntaxOf(template)
  const { messages, args, tools, unread } = conversationFor(template, syntax, input)
  const behind = held ? openingOf(syntax) : undefined
  const ids = await tokenizer.encodeChat(messages, { signal, args, behind })
  if (input.split !== true) return { ids, continued: false, syntax, ...(held ? {} : plainReading(syntax)) }
  const opensThought = endsWith(tokenizer, ids, syntax.thoughts?.[0])
  if (held && opensThought) {
    const message =
      'the model begins with a thought, which no form can hold: turn thinking off for this request'
    throw new RequestError(message, 'reasoning_effort')
  }
  const definitions = new Map((input.tools ?? []).map(({ name, parameters }) => [name, parameters]))
  // What has a form is written as any model is told to write it.
  const written: ReplySyntax = held ? { calls: 'json', thoughts: undefined } : syntax
  const shown = writtenTokens(written, definitions.size > 0)
  const reader = new ReplyReader({ syntax: written, tools: definitions, isThinking: opensThought })
  const oneCall = input.parallel === false
  return { ids, continued: false, syntax, reader, shown, oneCall, said: { tools, unread } }
}

/** What reads a reply all of which is text: of channels that stands in the final one, and what they are called is none. */
function plainReading(syntax: ReplySyntax): Pick<Prompt, 'reader' | 'shown'> {
  if (syntax.calls !== 'harmony') return {}
  const reader = new ReplyReader({ syntax, tools: new Map(), isThinking: false })
  return { reader, shown: writtenTokens(syntax, false) }
}

/** Tokens at the end of a prompt that are looked at for a thought that it opens. */
const TAIL_TOKENS = 16

function endsWith(tokenizer: Tokenizer, ids: readonly number[], mark: string | undefined): boolean {
  if (mark === undefined) return false
  const decoder = tokenizer.decoder({ continuation: true, shown: [mark] })
  const tail = ids
    .slice(-TAIL_TOKENS)
    .map(id => decoder.push(id))
    .join('')
  return tail.trimEnd().endsWith(mark)
}

function checkedIds(ids: readonly number[], vocabSize: number): number[] {
  const strange = ids.find(id => !Number.isInteger(id) || id < 0 || id >= vocabSize)
  if (strange === undefined) return [...ids]
  throw new RequestError(`the prompt has a token ${strange}; the model's are 0 to ${vocabSize - 1}`, 'prompt')
}
