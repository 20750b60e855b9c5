import { GrammarError } from './errors.ts'
import { PLAIN } from './json-string.ts'
import { ALL, classOf, common, type Range, without } from './ranges.ts'
import { either, literal, repeated } from './rules.ts'

const MAX_PATTERN_CHARS = 4096
const MAX_REPEATS = 4096
const MAX_GROUPS_DEEP = 64

const DIGITS: Range[] = [[0x30, 0x39]]
const WORDS: Range[] = [...DIGITS, [0x41, 0x5a], [0x5f, 0x5f], [0x61, 0x7a]]
const SPACES: Range[] = [
  [0x09, 0x0d],
  [0x20, 0x20]
]
const NAMED: Record<string, readonly Range[]> = {
  d: DIGITS,
  w: WORDS,
  s: SPACES,
  D: without(ALL, DIGITS),
  W: without(ALL, WORDS),
  S: without(ALL, SPACES)
}
const CONTROLS: Record<string, number> = { n: 10, r: 13, t: 9, f: 12, v: 11, 0: 0 }
/** How JSON writes what cannot stand for itself in a string. */
const IN_JSON = new Map([
  ...[8, 9, 10, 12, 13, 0x22, 0x5c].map(
    code => [code, JSON.stringify(String.fromCharCode(code)).slice(1, -1)] as const
  )
])

/** `text`: as it is; `json`: what is between the quotes of a JSON string. */
export type Written = 'text' | 'json'

/**
 * A regular expression as the body of a rule. It is that of ECMAScript without looking around, back references, word
 * boundaries, and anchors in the middle; laziness changes nothing of what is matched.
 *
 * @param whole the text is all that it matches; otherwise what it does not anchor may have anything beside it
 * @throws {GrammarError} where it cannot be read
 */
export function regexBody(pattern: string, { written, whole }: { written: Written; whole: boolean }): string {
  if (pattern.length > MAX_PATTERN_CHARS) {
    throw new GrammarError(`a pattern of ${pattern.length} characters is longer than ${MAX_PATTERN_CHARS}`)
  }
  return new Pattern(pattern, written, whole).read()
}

class Pattern {
  readonly #chars: string[]
  readonly #pattern: string
  readonly #written: Written
  readonly #whole: boolean
  #at = 0

  constructor(pattern: string, written: Written, whole: boolean) {
    this.#pattern = pattern
    this.#chars = Array.from(pattern)
    this.#written = written
    this.#whole = whole
  }

  read(): string {
    const body = this.#options(0)
    if (this.#at < this.#chars.length) throw this.#problem('a ")" closes nothing')
    return body
  }

  #options(depth: number): string {
    if (depth > MAX_GROUPS_DEEP) throw this.#problem('its groups are too deep')
    const options = [this.#sequence(depth)]
    while (this.#take('|')) options.push(this.#sequence(depth))
    return either(options)
  }

  #sequence(depth: number): string {
    const parts: string[] = []
    const anything = `${this.#oneOf(ALL)}*`
    const isAnchored = this.#take('^')
    if (isAnchored && depth > 0) throw this.#problem('it has an anchor in a group')
    let ends = false
    while (this.#at < this.#chars.length && !this.#sees('|') && !this.#sees(')')) {
      if (this.#take('$')) {
        ends = true
        if (depth > 0) throw this.#problem('it has an anchor in a group')
        continue
      }
      if (ends) throw this.#problem('something follows its end')
      parts.push(this.#quantified(this.#atom(depth)))
    }
    if (depth === 0 && !this.#whole) {
      if (!isAnchored) parts.unshift(anything)
      if (!ends) parts.push(anything)
    }
    return parts.length === 0 ? '""' : parts.join(' ')
  }

  #quantified(atom: string): string {
    const [min, max] = this.#quantity() ?? [1, 1]
    return min === 1 && max === 1 ? atom : repeated(atom, min, max)
  }

  #quantity(): [min: number, max?: number] | undefined {
    let quantity: [number, number?] | undefined
    if (this.#take('*')) quantity = [0]
    else if (this.#take('+')) quantity = [1]
    else if (this.#take('?')) quantity = [0, 1]
    else {
      const found = /^\{(\d{1,5})(,(\d{0,5}))?\}/.exec(this.#chars.slice(this.#at, this.#at + 16).join(''))
      if (found === null) return undefined
      this.#at += found[0].length
      const min = Number(found[1])
      const max = found[2] === undefined ? min : found[3] === '' ? undefined : Number(found[3])
      if (min > MAX_REPEATS || (max ?? 0) > MAX_REPEATS || (max ?? min) < min) {
        throw this.#problem(`{${min},${max ?? ''}} is not in 0 to ${MAX_REPEATS}`)
      }
      quantity = max === undefined ? [min] : [min, max]
    }
    // Which of several ways is tried first does not matter.
    this.#take('?')
    return quantity
  }

  #atom(depth: number): string {
    const char = this.#chars[this.#at++]!
    switch (char) {
      case '(': {
        if (this.#take('?') && !this.#take(':') && !this.#takeName()) throw this.#problem('it looks around')
        const body = this.#options(depth + 1)
        if (!this.#take(')')) throw this.#problem('a group is not closed')
        return `(${body})`
      }
      case '[':
        return this.#oneOf(this.#class())
      case '.':
        return this.#oneOf(
          without(ALL, [
            [10, 10],
            [13, 13]
          ])
        )
      case '\\':
        return this.#oneOf(this.#escape())
      case '*':
      case '+':
      case '?':
        throw this.#problem(`"${char}" follows nothing`)
      default:
        return this.#oneOf([[char.codePointAt(0)!, char.codePointAt(0)!]])
    }
  }

  #takeName(): boolean {
    const found = /^P?<[A-Za-z_]\w*>/.exec(this.#chars.slice(this.#at, this.#at + 64).join(''))
    this.#at += found?.[0].length ?? 0
    return found !== null
  }

  #class(): readonly Range[] {
    const isNegated = this.#take('^')
    const ranges: Range[] = []
    while (!this.#take(']')) {
      const first = this.#member()
      const next = this.#chars[this.#at + 1]
      if (
        first.length === 1 &&
        first[0]![0] === first[0]![1] &&
        this.#sees('-') &&
        next !== ']' &&
        next !== undefined
      ) {
        this.#at++
        const last = this.#member()
        const range: Range = [first[0]![0], last[0]![1]]
        if (last.length !== 1 || range[0] > range[1]) throw this.#problem('a range is none')
        ranges.push(range)
      } else ranges.push(...first)
    }
    const some = isNegated ? without(ALL, ranges) : common(ranges, ALL)
    if (some.length === 0) throw this.#problem('a class is empty')
    return some
  }

  #member(): readonly Range[] {
    const char = this.#chars[this.#at++]
    if (char === undefined) throw this.#problem('a class is not closed')
    if (char === '\\' && this.#take('b')) return [[8, 8]]
    if (char === '\\') return this.#escape()
    return [[char.codePointAt(0)!, char.codePointAt(0)!]]
  }

  #escape(): readonly Range[] {
    const char = this.#chars[this.#at++]
    if (char === undefined) throw this.#problem('it ends within an escape')
    if (NAMED[char] !== undefined) return NAMED[char]
    const control = CONTROLS[char]
    if (control !== undefined) return [[control, control]]
    const digits = char === 'x' ? 2 : char === 'u' ? 4 : 0
    if (digits > 0) {
      const hex = this.#chars.slice(this.#at, this.#at + digits).join('')
      if (hex.length !== digits || !/^[0-9a-fA-F]+$/.test(hex)) throw this.#problem('an escape is cut off')
      this.#at += digits
      return [[Number.parseInt(hex, 16), Number.parseInt(hex, 16)]]
    }
    if (/[A-Za-z0-9]/.test(char)) throw this.#problem(`"\\${char}" is not supported`)
    return [[char.codePointAt(0)!, char.codePointAt(0)!]]
  }

  /** A character, as it is written. */
  #oneOf(ranges: readonly Range[]): string {
    if (this.#written === 'text') return classOf(common(ranges, ALL))
    const plain = common(ranges, PLAIN)
    const isIn = (code: number) => ranges.some(([first, last]) => first <= code && code <= last)
    const escapes = [...IN_JSON].filter(([code]) => isIn(code)).map(([, text]) => literal(text))
    const options = [...(plain.length > 0 ? [classOf(plain)] : []), ...escapes]
    if (options.length === 0) throw this.#problem('it wants a character that JSON cannot write briefly')
    return either(options)
  }

  #sees(char: string): boolean {
    return this.#chars[this.#at] === char
  }

  #take(char: string): boolean {
    if (!this.#sees(char)) return false
    this.#at++
    return true
  }

  #problem(what: string): GrammarError {
    return new GrammarError(
      `the pattern ${JSON.stringify(this.#pattern.slice(0, 100))} cannot be used: ${what}`
    )
  }
}
