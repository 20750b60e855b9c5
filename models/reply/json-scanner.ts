/** What a character was to a value of JSON: part of it, its last one, or none of it. */
export type Scanned = 'more' | 'end' | 'broken'

const LITERAL = /^(?:true|false|null|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?)$/
/** What a literal may go on with, so that a broken one is noticed before it is said. */
const BEGUN_LITERAL =
  /^(?:t(?:r(?:ue?)?)?|f(?:a(?:l(?:se?)?)?)?|n(?:u(?:ll?)?)?|-?(?:0|[1-9]\d*)?(?:(?<=\d)\.\d*)?(?:(?<=\d)[eE][+-]?\d*)?)$/
const MAX_DEPTH = 200
const ESCAPED: Record<string, string> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\b': '\\b', '\f': '\\f' }

/**
 * Reads one object, list or string of JSON character by character and says at once when it is none. Control characters
 * in a string, which JSON forbids and models write, are escaped: `take` gives the value as it should have been.
 */
export class JsonScanner {
  #written = ''
  readonly #open: string[] = []
  #expects: 'value' | 'value or ]' | 'key' | 'key or }' | ':' | 'comma' | 'string' | 'literal' = 'value'
  #isKey = false
  #isEscaped = false
  #hexDigits = 0
  #literal = ''

  /** What of the value was not taken yet. */
  take(): string {
    const taken = this.#written
    this.#written = ''
    return taken
  }

  push(character: string): Scanned {
    if (this.#expects === 'string') return this.#string(character)
    if (this.#expects === 'literal') {
      const whole = this.#literal + character
      if (BEGUN_LITERAL.test(whole)) {
        this.#literal = whole
        return this.#write(character)
      }
      if (!LITERAL.test(this.#literal)) return 'broken'
      this.#expects = 'comma'
    }
    // What is white space elsewhere is none in JSON.
    if (/\s/.test(character)) return this.#write(/[ \t\n\r]/.test(character) ? character : ' ')
    switch (this.#expects) {
      case 'value':
      case 'value or ]':
        return this.#value(character)
      case 'key':
      case 'key or }':
        if (character === '"') return this.#beginString(true)
        return character === '}' && this.#expects === 'key or }' ? this.#close(character) : 'broken'
      case ':':
        if (character !== ':') return 'broken'
        this.#expects = 'value'
        return this.#write(character)
      default:
        if (character === '}' || character === ']') return this.#close(character)
        if (character !== ',' || this.#open.length === 0) return 'broken'
        this.#expects = this.#open.at(-1) === '{' ? 'key' : 'value'
        return this.#write(character)
    }
  }

  #value(character: string): Scanned {
    if (character === '"') return this.#beginString(false)
    if (character === ']' && this.#expects === 'value or ]') return this.#close(character)
    if (character === '{' || character === '[') {
      if (this.#open.push(character) > MAX_DEPTH) return 'broken'
      this.#expects = character === '{' ? 'key or }' : 'value or ]'
      return this.#write(character)
    }
    if (this.#open.length === 0 || !BEGUN_LITERAL.test(character)) return 'broken'
    this.#literal = character
    this.#expects = 'literal'
    return this.#write(character)
  }

  #beginString(isKey: boolean): Scanned {
    this.#isKey = isKey
    this.#expects = 'string'
    return this.#write('"')
  }

  #string(character: string): Scanned {
    if (this.#hexDigits > 0) {
      this.#hexDigits--
      return /[0-9a-fA-F]/.test(character) ? this.#write(character) : 'broken'
    }
    if (this.#isEscaped) {
      this.#isEscaped = false
      if (character === 'u') this.#hexDigits = 4
      return '"\\/bfnrtu'.includes(character) ? this.#write(character) : 'broken'
    }
    if (character === '\\') {
      this.#isEscaped = true
      return this.#write(character)
    }
    if (character === '"') {
      this.#write('"')
      if (this.#open.length === 0) return 'end'
      this.#expects = this.#isKey ? ':' : 'comma'
      return 'more'
    }
    if (character >= ' ') return this.#write(character)
    return this.#write(ESCAPED[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`)
  }

  #close(character: string): Scanned {
    if (this.#open.pop() !== (character === '}' ? '{' : '[')) return 'broken'
    this.#expects = 'comma'
    this.#write(character)
    return this.#open.length === 0 ? 'end' : 'more'
  }

  #write(text: string): Scanned {
    this.#written += text
    return 'more'
  }
}
