import { GrammarError } from './errors.ts'

/** The text of a grammar at most: what it costs to compile grows with it, times the vocabulary. */
export const MAX_GRAMMAR_CHARS = 128 * 1024

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
    if (this.#chars > MAX_GRAMMAR_CHARS) {
      throw new GrammarError(`it is too large: more than ${MAX_GRAMMAR_CHARS} characters as a grammar`)
    }
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

  text(root: string): string {
    return [['root', root], ...this.#bodies].map(([name, body]) => `${name} ::= ${body}`).join('\n')
  }
}

/** Exactly this text. */
export function literal(text: string): string {
  return text === '' ? '""' : `"${Array.from(text, char => escaped(char.codePointAt(0)!)).join('')}"`
}

/** One of several; as a group, so that it can stand anywhere. */
export function either(options: readonly string[]): string {
  return options.length === 1 ? options[0]! : `(${options.join(' | ')})`
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
