import { Template } from '@huggingface/jinja'
import { tokenContent } from './control-tokens.ts'
import { ChatTemplateError } from './errors.ts'
import { isObject, type JsonObject, readText } from './files.ts'
import type { TemplateMessage } from './messages.ts'

/** A rendered conversation of a million tokens has about as many characters. */
const MAX_RENDERED_CHARACTERS = 8 << 20
const VARIABLES = ['bos_token', 'eos_token', 'unk_token', 'pad_token']

/** The model's chat template: its own file, or tokenizer_config.json's (the one called `default` among several). */
export function chatTemplateSource(files: Record<string, Uint8Array>, config: JsonObject): string | null {
  const file = readText(files, 'chat_template.jinja')
  if (file !== null) return file
  const { chat_template: entry } = config
  if (typeof entry === 'string') return entry
  if (!Array.isArray(entry)) return null
  const chosen = entry.filter(isObject).find(({ name }) => name === 'default')
  return typeof chosen?.template === 'string' ? chosen.template : null
}

/** Compiles a template into a function that renders a conversation up to where the assistant's reply begins. */
export function compileChatTemplate(
  source: string,
  config: JsonObject
): (messages: TemplateMessage[]) => string {
  const template = rephrased('the chat template is not valid', () => new Template(source))
  const variables = Object.fromEntries(VARIABLES.map(name => [name, tokenContent(config[name]) ?? '']))
  return messages => {
    const text = rephrased('the chat template refuses this conversation', () =>
      template.render({ ...variables, messages, add_generation_prompt: true, tools: null, documents: null })
    )
    if (text.length > MAX_RENDERED_CHARACTERS) {
      throw new ChatTemplateError(`the chat template renders more than ${MAX_RENDERED_CHARACTERS} characters`)
    }
    return text
  }
}

function rephrased<T>(what: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw new ChatTemplateError(`${what}: ${(error as Error).message.slice(0, 300)}`)
  }
}
