import { GrammarError } from './errors.ts'

/** The text of a grammar at most: what it costs to compile grows with it, times the vocabulary. */
const MAX_GRAMMAR_CHARS = 128 * 1024

/** How much of a grammar was written at some time. */
export interface RulesMark {
  rules: number
  chars: number
}

/** A grammar in EBNF while it is written: rules by name, of which `root` is what an answer is. */
export class Rules {
  readonly #bodies = new Map<string, string>()
  #chars = 0

  /** A name for a rule whose body comes later, for it may contain itself. */
  reserve(hint: string): string {
    const name = `${hint}_${this.#bodies.size}`
    this.#bodies.set(name, '')
    return name
  }

  /** @throws {GrammarError} where all of them are too long */
  set(name: string, body: string): void {
    this.#chars += name.length + body.length
    checkLength(this.#chars)
    this.#bodies.set(name, body)
  }

  add(hint: string, body: string): string {
    const name = this.reserve(hint)
    this.set(name, body)
    return name
  }

  /** A rule that is the same wherever it is used. */
  shared(name: string, body: () => string): string {
    if (!this.#bodies.has(name)) {
      this.#bodies.set(name, '')
      this.set(name, body())
    }
    return name
  }

  /** What `backTo` goes back to. */
  get mark(): RulesMark {
    return { rules: this.#bodies.size, chars: this.#chars }
  }

  /** Takes away what was written since, which nothing before it can name. */
  backTo({ rules, chars }: RulesMark): void {
    for (const name of [...this.#bodies.keys()].slice(rules)) this.#bodies.delete(name)
    this.#chars = chars
  }

  has(name: string): boolean {
    return this.#bodies.has(name)
  }

  text(root: string): string {
    return [['root', root], ...this.#bodies].map(([name, body]) => `${name} ::= ${body}`).join('\n')
  }
}

/** @throws {GrammarError} where a part of a grammar is longer than a whole one may be: it must not grow any further */
export function checkLength(chars: number): void {
  if (chars <= MAX_GRAMMAR_CHARS) return
  throw new GrammarError(`it is too large: more than ${MAX_GRAMMAR_CHARS} characters as a grammar`)
}

/** Exactly this text. @throws {GrammarError} where it is too long */
export function literal(text: string): string {
  checkLength(text.length)
  return text === '' ? '""' : `"${Array.from(text, char => escaped(char.codePointAt(0)!)).join('')}"`
}

/**
 * One of several; as a group, so that it can stand anywhere.
 *
 * @throws {GrammarError} where they are too long; no further ones are asked for then
 */
export function either(options: Iterable<string>): string {
  const all: string[] = []
  let chars = 0
  for (const option of options) {
    chars += option.length
    checkLength(chars)
    all.push(option)
  }
  return all.length === 1 ? all[0]! : `(${all.join(' | ')})`
}

/** Each as a text when it is asked for: all of them may be more than there is memory for. */
export function* each<T>(values: Iterable<T>, written: (value: T) => string): Generator<string> {
  for (const value of values) yield written(value)
}

/** As often as that; without a `max`, any number of times. */
export function repeated(body: string, min: number, max?: number): string {
  if (max === undefined) return min === 0 ? `(${body})*` : min === 1 ? `(${body})+` : `(${body}){${min},}`
  if (max === 0) return '""'
  if (min === 1 && max === 1) return `(${body})`
  return min === 0 && max === 1 ? `(${body})?` : `(${body}){${min},${max}}`
}

/** A code point in a text or a class; letters, digits and blanks stand for themselves. */
export function escaped(code: number): string {
  const char = String.fromCodePoint(code)
  return /[A-Za-z0-9 _,:{}<>/=.]/.test(char) && code < 128 ? char : `\\U${code.toString(16).padStart(8, '0')}`
}
