import { type Command, InvalidArgumentError, type Option } from 'commander'
import { InputError } from './errors.ts'
import { bytesOption, bytesOrNoneOption, collect, durationOption, type IntegerParser } from './options.ts'

/** What a setting takes in a configuration file, as JSON Schema says it. */
export type SettingSchema =
  | { type: 'boolean' | 'string' }
  | { type: 'integer'; minimum: number; maximum: number }
  | { type: readonly ['string', 'number'] }
  | { type: 'array'; items: { type: 'string' } }
  | { enum: readonly string[] }

const YES = ['1', 'true', 'yes', 'on']
const NO = ['0', 'false', 'no', 'off']

/** An option of a command that the environment and a configuration file can set as well. */
export class Setting {
  /** The option without its dashes, which is its key in a configuration file: `keep-alive`; of `--no-mdns` it is `mdns`. */
  readonly name: string
  /** Where commander keeps its value. */
  readonly attribute: string
  readonly description: string
  readonly schema: SettingSchema
  readonly #option: Option

  constructor(option: Option) {
    this.name = option.long!.replace(/^--(no-)?/, '')
    this.attribute = option.attributeName()
    this.description = option.description
    this.schema = schemaOf(option)
    this.#option = option
  }

  /** Its name in the environment: `EDGESHARD_KEEP_ALIVE`. */
  get variable(): string {
    return `EDGESHARD_${this.name.toUpperCase().replaceAll('-', '_')}`
  }

  /** @param where what is named in an error @throws {InputError} for a text that is no value of it */
  fromText(text: string, where: string): unknown {
    if ('type' in this.schema && this.schema.type === 'boolean') {
      const word = text.trim().toLowerCase()
      if (YES.includes(word)) return true
      if (NO.includes(word)) return false
      throw new InputError(`${where}: give 1 or 0, not "${text}"`)
    }
    return this.#isList ? this.#list(text.split(/[\s,]+/), where) : this.#parsed(text, where)
  }

  /** @param value what a configuration file has for it @throws {InputError} for what is no value of it */
  fromJson(value: unknown, where: string): unknown {
    const { schema } = this
    if (this.#isList) {
      const texts: readonly unknown[] = Array.isArray(value) ? value : [value]
      if (texts.every(text => typeof text === 'string')) return this.#list(texts, where)
    } else if ('enum' in schema || schema.type === 'string') {
      if (typeof value === 'string') return this.#parsed(value, where)
    } else if (schema.type === 'boolean') {
      if (typeof value === 'boolean') return value
    } else if (typeof value === 'number' || (typeof value === 'string' && schema.type !== 'integer')) {
      return this.#parsed(String(value), where)
    }
    throw new InputError(`${where}: ${expected(schema)} is expected`)
  }

  get #isList(): boolean {
    return 'type' in this.schema && this.schema.type === 'array'
  }

  #list(texts: readonly string[], where: string): unknown {
    return texts
      .filter(text => text !== '')
      .reduce<unknown>((before, text) => this.#parsed(text, where, before), [])
  }

  #parsed(text: string, where: string, before?: unknown): unknown {
    try {
      return this.#option.parseArg === undefined ? text : this.#option.parseArg(text, before)
    } catch (error) {
      if (!(error instanceof InvalidArgumentError)) throw error
      throw new InputError(`${where}: "${text}" will not do. ${error.message}`, { cause: error })
    }
  }
}

/** The settings of a command: each of its options once, but those that ask for something else to be done. */
export function settingsOf(command: Command, but: readonly string[]): Setting[] {
  const settings = command.options
    .filter(({ long }) => long !== undefined && long !== null)
    .map(option => new Setting(option))
    .filter(({ name }) => !but.includes(name))
  // Of `--bundled` and `--no-bundled` the first says what it is.
  return [...new Map(settings.toReversed().map(setting => [setting.name, setting])).values()].toReversed()
}

function schemaOf({ required, optional, argChoices, parseArg }: Option): SettingSchema {
  if (!required && !optional) return { type: 'boolean' }
  if (argChoices !== undefined) return { enum: argChoices }
  if (parseArg === undefined) return { type: 'string' }
  if (isParser(parseArg, collect)) return { type: 'array', items: { type: 'string' } }
  if (isIntegerParser(parseArg)) return { type: 'integer', minimum: parseArg.min, maximum: parseArg.max }
  return [bytesOption, bytesOrNoneOption, durationOption].some(parser => isParser(parseArg, parser))
    ? { type: ['string', 'number'] }
    : { type: 'string' }
}

function isParser(parser: unknown, known: unknown): boolean {
  return parser === known
}

function isIntegerParser(parser: unknown): parser is IntegerParser {
  return typeof parser === 'function' && 'min' in parser && 'max' in parser
}

function expected(schema: SettingSchema): string {
  if ('enum' in schema) return `one of ${schema.enum.join(', ')}`
  if (schema.type === 'array') return 'a list of texts'
  if (schema.type === 'integer') return `a whole number from ${schema.minimum} to ${schema.maximum}`
  if (schema.type === 'boolean') return 'true or false'
  return schema.type === 'string' ? 'a text' : 'a text or a number'
}
