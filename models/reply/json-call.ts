import { JsonScanner } from './json-scanner.ts'

const NAME_KEYS = ['name', 'function', 'tool', 'tool_name']
const ARGUMENT_KEYS = ['arguments', 'parameters', 'args', 'input']
/** Calls that a model writes with its function in an object of its own, as APIs do. */
const NESTING_KEY = 'function'
const MAX_KEY_CHARS = 64

type State = '{' | 'key or }' | 'key' | ':' | 'value' | 'comma'

/** What is new of a call after a character. */
export type CallNews = { name: string; id: string | undefined } | undefined

/**
 * Reads one call, `{"name": NAME, "arguments": {}}` in any order of its keys, character by character. `news` says once
 * what it is called; `take` gives its arguments from then on, as far as they are there.
 */
export class JsonCall {
  #state: State = '{'
  #nested = 0
  #key = ''
  #value: JsonScanner | undefined
  #literal = ''
  /** Arguments are handed on as they come, everything else is read when it is whole. */
  #isHandedOn = false
  #text = ''
  #id: string | undefined
  #arguments = ''
  #hasArguments = false
  #name: string | undefined
  #isTold = false

  /** @returns `end` behind the last character of the call, `broken` where it is none */
  push(character: string): 'more' | 'end' | 'broken' {
    if (this.#value !== undefined) return this.#within(this.#value, character)
    if (this.#literal !== '') {
      if (!/[\s,}]/.test(character)) {
        this.#literal += character
        return this.#literal.length > MAX_KEY_CHARS ? 'broken' : 'more'
      }
      if (!isJson(this.#literal)) return 'broken'
      this.#literal = ''
    }
    if (/\s/.test(character)) return 'more'
    switch (this.#state) {
      case '{':
        this.#state = 'key or }'
        return character === '{' ? 'more' : 'broken'
      case 'key or }':
      case 'key':
        if (character === '"') return this.#begin(character, false)
        return character === '}' && this.#state === 'key or }' ? this.#close() : 'broken'
      case ':':
        this.#state = 'value'
        return character === ':' ? 'more' : 'broken'
      case 'value':
        return this.#beginValue(character)
      default:
        if (character === '}') return this.#close()
        this.#state = 'key'
        return character === ',' ? 'more' : 'broken'
    }
  }

  /** The name of the call, once, when it is known. */
  news(): CallNews {
    if (this.#isTold || this.#name === undefined) return undefined
    this.#isTold = true
    return { name: this.#name, id: this.#id }
  }

  /** Arguments that are new; none before the name is told. */
  take(): string {
    if (!this.#isTold) return ''
    const taken = this.#arguments
    this.#arguments = ''
    return taken
  }

  /** Whether name and arguments are whole, so that nothing is missing but closing braces. */
  get isWhole(): boolean {
    return this.#name !== undefined && this.#hasArguments
  }

  #begin(character: string, isHandedOn: boolean): 'more' | 'broken' {
    this.#value = new JsonScanner()
    this.#text = ''
    this.#isHandedOn = isHandedOn
    return this.#within(this.#value, character)
  }

  #beginValue(character: string): 'more' | 'broken' {
    const isArguments = ARGUMENT_KEYS.includes(this.#key)
    if (isArguments && this.#hasArguments) return 'broken'
    if (character === '{' && this.#key === NESTING_KEY) {
      this.#nested++
      this.#state = 'key or }'
      return 'more'
    }
    if (character === '{' || character === '"' || (character === '[' && !isArguments)) {
      return this.#begin(character, isArguments && character === '{')
    }
    // A call without arguments may say so.
    if (isArguments && character !== 'n') return 'broken'
    this.#literal = character
    this.#state = 'comma'
    return 'more'
  }

  #within(value: JsonScanner, character: string): 'more' | 'broken' {
    const scanned = value.push(character)
    if (scanned === 'broken') return 'broken'
    if (this.#isHandedOn) this.#arguments += value.take()
    else this.#text += value.take()
    return scanned === 'end' ? this.#end() : 'more'
  }

  #end(): 'more' | 'broken' {
    this.#value = undefined
    if (this.#state !== 'value') {
      this.#key = JSON.parse(this.#text) as string
      this.#state = ':'
      return 'more'
    }
    this.#state = 'comma'
    if (this.#isHandedOn) {
      this.#hasArguments = true
      return 'more'
    }
    const value: unknown = JSON.parse(this.#text)
    if (typeof value !== 'string') return 'more'
    if (ARGUMENT_KEYS.includes(this.#key)) {
      if (!isJsonObject(value)) return 'broken'
      this.#arguments = value
      this.#hasArguments = true
    } else if (NAME_KEYS.includes(this.#key)) this.#name ??= value
    else if (this.#key === 'id') this.#id ??= value
    return 'more'
  }

  #close(): 'more' | 'end' | 'broken' {
    this.#state = 'comma'
    if (this.#nested > 0) {
      this.#nested--
      return 'more'
    }
    if (this.#name === undefined) return 'broken'
    if (!this.#hasArguments) this.#arguments = '{}'
    this.#hasArguments = true
    return 'end'
  }
}

function isJson(text: string): boolean {
  try {
    JSON.parse(text)
    return true
  } catch {
    // Which is what was asked.
    return false
  }
}

/** Arguments are written as a string by some models, as APIs have them. */
function isJsonObject(text: string): boolean {
  try {
    const value: unknown = JSON.parse(text)
    return typeof value === 'object' && value !== null && !Array.isArray(value)
  } catch {
    // Which is what was asked.
    return false
  }
}
