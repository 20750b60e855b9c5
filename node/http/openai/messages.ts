import * as z from 'zod'
import type { ChatMessage, ToolDefinition } from '../../api.ts'
import { jsonObject, MAX_CALLS, role, text, toolName } from '../fields.ts'

const MAX_PARTS = 1024

const parts = z
  .array(z.object({ type: z.literal('text', 'only text parts are understood'), text }))
  .max(MAX_PARTS)
const call = z.object({
  id: z.string().max(256).nullish(),
  type: z.literal('function', 'only calls of functions are understood').nullish(),
  function: z.object({ name: toolName, arguments: text.nullish() })
})

/** A message as OpenAI has it; some servers put thoughts beside the content, by one name or the other. */
export const message = z.object({
  role,
  content: z.union([text, parts]).nullish(),
  reasoning_content: text.nullish(),
  reasoning: text.nullish(),
  tool_calls: z.array(call).max(MAX_CALLS).nullish(),
  tool_call_id: z.string().max(256).nullish(),
  name: z.string().max(256).nullish()
})

export const functionTool = z.object({
  type: z.literal('function', 'only functions are supported as tools'),
  function: z.object({
    name: toolName,
    description: text.nullish(),
    parameters: jsonObject.nullish(),
    strict: z.boolean().nullish()
  })
})

/** Fields of messages that are read, or that answers have and questions need not. */
export const KNOWN_OF_MESSAGES: ReadonlySet<string> = new Set([
  ...Object.keys(message.shape),
  ...['refusal', 'annotations', 'audio', 'function_call']
])

/** Turns in the node's words; results of tools get the name of what was called. */
export function turnsOf(messages: readonly z.infer<typeof message>[]): ChatMessage[] {
  const names = new Map<string, string>()
  return messages.map((said, at) => {
    const { role, content, tool_calls: calls, tool_call_id: callId } = said
    const reasoning = said.reasoning_content ?? said.reasoning
    const toolCalls = (calls ?? []).map(({ id, function: { name, arguments: given } }, index) => ({
      id: id ?? `call_${at}_${index}`,
      name,
      arguments: given ?? '{}'
    }))
    for (const { id, name } of toolCalls) names.set(id, name)
    const name = said.name ?? (callId ? names.get(callId) : undefined)
    return {
      // What was a tool when it was called a function.
      role: role === 'function' ? 'tool' : role,
      content: contentText(content),
      ...(reasoning && { reasoning }),
      ...(toolCalls.length > 0 && { toolCalls }),
      ...(callId && { toolCallId: callId }),
      ...(name && (role === 'tool' || role === 'function') && { name })
    }
  })
}

export function definitionOf({ function: given }: z.infer<typeof functionTool>): ToolDefinition {
  const { name, description, parameters } = given
  return { name, ...(description && { description }), ...(parameters && { parameters }) }
}

function contentText(content: z.infer<typeof message>['content']): string {
  if (content === null || content === undefined) return ''
  return typeof content === 'string' ? content : content.map(part => part.text).join('')
}
