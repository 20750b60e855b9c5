import { createHash } from 'node:crypto'
import type { ReplySyntax } from '../../../models/reply/parts.ts'
import { namesTools, reads } from '../../../models/reply/syntax.ts'
import type { TemplateArguments, TemplateCall, TemplateMessage } from '../../../models/tokenizer/messages.ts'
import type { ChatInput, ChatMessage, ToolCall, ToolDefinition } from '../../api.ts'
import { isShallow } from '../../shallow.ts'
import { genericTools, withGenericTools } from './generic-tools.ts'
import { harmonyTurns } from './harmony-turns.ts'
import { thinkingSwitches, withMark } from './thinking-switches.ts'

/** A conversation as one model's template is given it. */
export interface Conversation {
  messages: TemplateMessage[]
  args: TemplateArguments
  /** Whose words the tools are put in; null: there are none. */
  tools: 'template' | 'generic' | null
  /** Arguments that the template does not read. */
  unread: string[]
}

/** Templates that put a call together of texts want its arguments as one. */
const ARGUMENTS_AS_TEXT = /\+\s*\w+\[['"]function['"]\]\[['"]arguments['"]\]/
const MISTRAL_ID = /^[a-zA-Z0-9]{9}$/

/** @param template of the model; a conversation that it takes is its own to say */
export function conversationFor(template: string, syntax: ReplySyntax, input: ChatInput): Conversation {
  const { tools = [], templateArguments = {} } = input
  const isHarmony = syntax.calls === 'harmony'
  const known = isHarmony
    ? harmonyTurns(input.messages)
    : template.includes('developer')
      ? input.messages
      : withoutDeveloper(input.messages)
  const isNamed = namesTools(template)
  const messages = isNamed ? known : withGenericTools(known, tools)
  const switches = thinkingSwitches(template, input.thinking)
  const args = { ...switches.args, ...templateArguments }
  // gpt-oss's template puts a description in, there or not.
  const definition = (tool: ToolDefinition) => genericTools(isHarmony ? { description: '', ...tool } : tool)
  return {
    messages: withMark(
      messages.map(message => templateMessage(message, template, syntax)),
      switches.mark
    ),
    args: isNamed && tools.length > 0 ? { ...args, tools: tools.map(definition) } : args,
    tools: tools.length === 0 ? null : isNamed ? 'template' : 'generic',
    unread: [
      ...(switches.isUnread ? ['thinking'] : []),
      ...Object.keys(templateArguments).filter(name => !reads(template, name))
    ]
  }
}

/** Gives a developer's turn to the system, where a template has no such role; it joins one right before it. */
function withoutDeveloper(messages: readonly ChatMessage[]): ChatMessage[] {
  const result: ChatMessage[] = []
  for (const message of messages) {
    const last = result.at(-1)
    if (message.role !== 'developer') result.push(message)
    else if (last?.role === 'system') {
      result[result.length - 1] = { ...last, content: `${last.content}\n\n${message.content}` }
    } else result.push({ ...message, role: 'system' })
  }
  return result
}

function templateMessage(message: ChatMessage, template: string, syntax: ReplySyntax): TemplateMessage {
  const { role, content, reasoning, toolCalls = [], toolCallId, name } = message
  const id = (given: string) => (syntax.calls === 'mistral' ? mistralId(given) : given)
  return {
    role,
    content,
    // Templates call it so or so.
    ...(reasoning !== undefined && { reasoning_content: reasoning, thinking: reasoning }),
    ...(toolCalls.length > 0 && {
      tool_calls: toolCalls.map(call => templateCall({ ...call, id: id(call.id) }, template))
    }),
    ...(toolCallId !== undefined && { tool_call_id: id(toolCallId) }),
    ...(name !== undefined && { name })
  }
}

function templateCall({ id, name, arguments: text }: ToolCall, template: string): TemplateCall {
  const wanted = ARGUMENTS_AS_TEXT.test(template) ? text : parsed(text)
  return { id, type: 'function', function: { name, arguments: wanted } }
}

/** Arguments that are no JSON are what the model reads of itself, too. */
function parsed(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text)
    return isShallow(value) ? value : text
  } catch {
    // Whoever sends a conversation may have it from anywhere.
    return text
  }
}

/** Mistral's templates refuse other ids; the same id becomes the same. */
function mistralId(id: string): string {
  if (MISTRAL_ID.test(id)) return id
  return createHash('sha256').update(id).digest('hex').slice(0, 9)
}
