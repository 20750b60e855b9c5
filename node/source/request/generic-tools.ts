import type { ChatMessage, ToolCall, ToolDefinition } from '../../api.ts'

/** What a model is told whose template knows no tools; the definitions follow, one a line. */
const INSTRUCTIONS = [
  'You can call functions. To call one, reply with nothing but a JSON object {"name": ..., "arguments": {...}},',
  'or with a JSON list of such objects to call several. Otherwise reply as usual. The functions are:'
].join(' ')

/** A definition as chat templates know it. */
export function genericTools({ name, description, parameters }: ToolDefinition): Record<string, unknown> {
  return {
    type: 'function',
    function: {
      name,
      ...(description !== undefined && { description }),
      parameters: parameters ?? { type: 'object', properties: {} }
    }
  }
}

/**
 * A conversation without anything of tools but text: definitions stand in the system turn, calls are what the model is
 * told to write, and results are the user's to tell.
 */
export function withGenericTools(
  messages: readonly ChatMessage[],
  tools: readonly ToolDefinition[]
): ChatMessage[] {
  const plain: ChatMessage[] = []
  for (const message of messages) {
    const turn = plainTurn(message)
    const last = plain.at(-1)
    // Results of several calls are one turn: many templates want turns to alternate.
    if (message.role === 'tool' && last?.role === 'user' && plain.length > 1) {
      plain[plain.length - 1] = { ...last, content: `${last.content}\n${turn.content}` }
    } else plain.push(turn)
  }
  if (tools.length === 0) return plain
  const definitions = tools.map(tool => JSON.stringify(genericTools(tool).function))
  const told = [INSTRUCTIONS, ...definitions].join('\n')
  const [first, ...rest] = plain
  return first?.role === 'system'
    ? [{ ...first, content: `${first.content}\n\n${told}` }, ...rest]
    : [{ role: 'system', content: told }, ...plain]
}

function plainTurn(message: ChatMessage): ChatMessage {
  const { role, content, reasoning, toolCalls = [], name, toolCallId } = message
  const thought = reasoning === undefined ? {} : { reasoning }
  if (role === 'tool') {
    return { role: 'user', content: `Result of ${name ?? toolCallId ?? 'the call'}: ${content}` }
  }
  if (toolCalls.length === 0) return { role, content, ...thought }
  const calls = toolCalls.map(written)
  const said = calls.length === 1 ? calls[0]! : `[${calls.join(', ')}]`
  return { role, content: content === '' ? said : `${content}\n${said}`, ...thought }
}

function written({ name, arguments: text }: ToolCall): string {
  return `{"name": ${JSON.stringify(name)}, "arguments": ${text === '' ? '{}' : text}}`
}
