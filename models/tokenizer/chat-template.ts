import { logger } from '../log.ts'
import { type ControlToken, splitAtControl, tokenContent } from './control-tokens.ts'
import { ChatTemplateError } from './errors.ts'
import { isObject, type JsonObject, readText } from './files.ts'
import { compileJinja, type JinjaTemplate } from './jinja/template.ts'
import type { TemplateArguments, TemplateMessage } from './messages.ts'

const log = logger('edgeshard:tokenizer')

/** A rendered conversation of a million tokens has about as many characters. */
const MAX_RENDERED_CHARACTERS = 8 << 20
const VARIABLES = ['bos_token', 'eos_token', 'unk_token', 'pad_token']

/** A model's chat template, compiled when it is first needed: a raw prompt does not need it to be valid. */
export interface ChatTemplate {
  readonly source: string
  /**
   * The conversation as text; with `reply` up to where the assistant's next reply begins. `args` are variables besides.
   *
   * @throws {ChatTemplateError} when the template is not valid or refuses the conversation.
   */
  render(messages: readonly TemplateMessage[], reply: boolean, args?: TemplateArguments): string
}

/** The model's own file, or tokenizer_config.json's entry, or null. */
export function chatTemplate(files: Record<string, Uint8Array>, config: JsonObject): ChatTemplate | null {
  const source = readText(files, 'chat_template.jinja') ?? entrySource(config.chat_template)
  if (source === null) return null
  const variables = Object.fromEntries(VARIABLES.map(name => [name, tokenContent(config[name]) ?? '']))
  let compiled: JinjaTemplate | null = null
  return {
    source,
    render: (messages, reply, args) => {
      const template = (compiled ??= compile(source))
      const own = { ...variables, messages, add_generation_prompt: reply }
      const values = { tools: null, documents: null, ...args, ...own }
      const text = rephrased('the chat template refuses this conversation', () =>
        template.render(values, MAX_RENDERED_CHARACTERS)
      )
      return text
    }
  }
}

/** @throws {ChatTemplateError} naming what is not valid, or not known here. */
function compile(source: string): JinjaTemplate {
  return rephrased('the chat template is not valid', () => compileJinja(source))
}

/** The control token that a template writes right behind a reply: it ends one even where the config forgot to say so. */
export function endOfTurn(template: ChatTemplate, controls: ControlToken[]): number[] {
  const reply = 'reply'.repeat(4)
  const turns = [
    { role: 'user', content: 'question' },
    { role: 'assistant', content: reply }
  ]
  try {
    const text = template.render(turns, false)
    const behind = text.slice(text.lastIndexOf(reply) + reply.length)
    const [gap, token] = splitAtControl(behind, controls)
    return text.includes(reply) && typeof gap === 'string' && gap.trim() === '' && typeof token === 'object'
      ? [token.id]
      : []
  } catch (error) {
    log.passOver(
      'a template does not take a conversation of our own; its end-of-turn token is left to the config'
    )(error)
    return []
  }
}

/** A template alone, a list of {name, template}, or an object of names: the one called default, or the only one. */
function entrySource(entry: unknown): string | null {
  if (typeof entry === 'string') return entry
  const named: [name: unknown, template: unknown][] = Array.isArray(entry)
    ? entry.filter(isObject).map(({ name, template }) => [name, template])
    : Object.entries(isObject(entry) ? entry : {})
  const [, chosen] = named.find(([name]) => name === 'default') ?? (named.length === 1 ? named[0]! : [])
  return typeof chosen === 'string' ? chosen : null
}

function rephrased<T>(what: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw new ChatTemplateError(`${what}: ${(error as Error).message.slice(0, 300)}`)
  }
}
