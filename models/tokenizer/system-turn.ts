import type { ChatTemplate } from './chat-template.ts'
import { ChatTemplateError } from './errors.ts'
import type { TemplateMessage } from './messages.ts'

/** Text that no template writes by itself. */
const PROBE = 'a system message of our own'

/**
 * The template, for which a system message is put before the text of the user's next turn where it has no place for one:
 * it refuses it (Gemma, Mistral 7B), or leaves it out without a word. As llama.cpp and Ollama do.
 */
export function takingSystem(template: ChatTemplate | null): ChatTemplate | null {
  if (template === null) return null
  let takes: boolean | undefined
  const render: ChatTemplate['render'] = (messages, ...rest) => {
    const folded =
      messages.some(message => message.role === 'system') && !(takes ??= takesSystem(template))
        ? foldSystem(messages)
        : messages
    return template.render(folded, ...rest)
  }
  return { ...template, render }
}

function takesSystem(template: ChatTemplate): boolean {
  const conversation = [
    { role: 'system', content: PROBE },
    { role: 'user', content: 'question' }
  ]
  try {
    return template.render(conversation, true).includes(PROBE)
  } catch (error) {
    // What else is wrong with it is said when it renders what was asked for.
    if (error instanceof ChatTemplateError) return false
    throw error
  }
}

/** Conversations without system turns that say the same. */
export function foldSystem(messages: readonly TemplateMessage[]): TemplateMessage[] {
  const folded: TemplateMessage[] = []
  let waiting: string[] = []
  for (const message of messages) {
    if (message.role === 'system') {
      waiting.push(message.content)
    } else if (message.role === 'user' && waiting.length > 0) {
      folded.push({ ...message, content: [...waiting, message.content].join('\n\n') })
      waiting = []
    } else {
      folded.push(message)
    }
  }
  if (waiting.length === 0) return folded
  const last = folded.at(-1)
  // Two turns of the user behind each other are what many of these templates refuse.
  if (last?.role === 'user') {
    folded[folded.length - 1] = { ...last, content: [last.content, ...waiting].join('\n\n') }
  } else folded.push({ role: 'user', content: waiting.join('\n\n') })
  return folded
}
