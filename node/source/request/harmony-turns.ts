import type { ChatMessage } from '../../api.ts'

/**
 * A conversation as gpt-oss's template says all of it. Of instructions it reads the first turn only, of calls the first of a
 * turn, which must be followed by its result, and it refuses a turn with calls, a text and thoughts: the rest would be
 * left out without a word.
 */
export function harmonyTurns(messages: readonly ChatMessage[]): ChatMessage[] {
  return oneCallATurn(instructionsFirst(messages))
}

function isInstruction({ role }: ChatMessage): boolean {
  return role === 'system' || role === 'developer'
}

/** Instructions at the beginning are one turn; later ones stand before the text of the user's next turn. */
function instructionsFirst(messages: readonly ChatMessage[]): ChatMessage[] {
  const begin = messages.findIndex(message => !isInstruction(message))
  const first = begin < 0 ? messages : messages.slice(0, begin)
  const turns: ChatMessage[] = first.length === 0 ? [] : [{ role: 'developer', content: joined(first) }]
  let waiting: ChatMessage[] = []
  for (const message of begin < 0 ? [] : messages.slice(begin)) {
    if (isInstruction(message)) waiting.push(message)
    else if (message.role === 'user' && waiting.length > 0) {
      turns.push({ ...message, content: joined([...waiting, message]) })
      waiting = []
    } else turns.push(message)
  }
  return waiting.length === 0 ? turns : [...turns, { role: 'user', content: joined(waiting) }]
}

function joined(messages: readonly ChatMessage[]): string {
  return messages.map(({ content }) => content).join('\n\n')
}

/** Each call in a turn of its own, behind it its result. What was said beside calls is part of the thoughts before them. */
function oneCallATurn(messages: readonly ChatMessage[]): ChatMessage[] {
  const turns: ChatMessage[] = []
  for (let at = 0; at < messages.length; ) {
    const turn = messages[at++]!
    const { toolCalls = [], reasoning, content } = turn
    if (toolCalls.length === 0) {
      turns.push(turn)
      continue
    }
    const results: ChatMessage[] = []
    while (messages[at]?.role === 'tool') results.push(messages[at++]!)
    const said = [reasoning ?? '', content].filter(text => text !== '').join('\n\n')
    toolCalls.forEach((call, i) => {
      const { reasoning: _, ...rest } = turn
      turns.push({
        ...rest,
        content: '',
        toolCalls: [call],
        ...(i === 0 && said !== '' && { reasoning: said })
      })
      const own = results.findIndex(({ toolCallId }) => toolCallId === call.id)
      const next = own >= 0 ? own : results.findIndex(({ toolCallId }) => toolCallId === undefined)
      if (next >= 0) turns.push(...results.splice(next, 1))
    })
    turns.push(...results)
  }
  return turns
}
