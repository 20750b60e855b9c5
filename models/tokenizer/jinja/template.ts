import { parse, tokenize } from '@huggingface/jinja'
import { Evaluator, NEGATED_TEST_PREFIX, TEST_PREFIX } from './evaluator.ts'
import { globals } from './globals.ts'
import type { Statement } from './nodes.ts'
import { cutRaw } from './raw.ts'
import { Scope } from './scope.ts'
import { fromJson } from './values.ts'

type Token = ReturnType<typeof tokenize>[number]

/** A compiled template, which is rendered as Python's Jinja would with the settings of transformers. */
export interface JinjaTemplate {
  /** @throws {Error} with what the template raises, or what it uses that is not known here. */
  render(values: Record<string, unknown>, maxCharacters: number): string
}

/**
 * Templates are parsed by @huggingface/jinja and run here: its interpreter computes as JavaScript where Python computes
 * otherwise (what strip() takes off, what is equal, how a list is written), and lacks much that chat templates use.
 *
 * @throws {Error} naming what cannot be parsed.
 */
export function compileJinja(source: string): JinjaTemplate {
  const { text, raw } = cutRaw(source)
  const tokens = withKnownForms(
    withoutTrailingCommas(tokenize(text, { lstrip_blocks: true, trim_blocks: true }))
  )
  const { body } = parse(tokens) as unknown as { body: Statement[] }
  return {
    render: (values, maxCharacters) => {
      const scope = globals()
      for (const [name, value] of Object.entries({ ...values, ...raw })) scope.set(name, fromJson(value))
      return new Evaluator(maxCharacters).run(body, new Scope(scope))
    }
  }
}

const token = (type: string, value: string) => ({ type, value }) as Token
const is = (found: Token | undefined, type: string, ...values: string[]) =>
  found?.type === type && (values.length === 0 || values.includes(found.value))

/** Before these a parenthesis is that of a call. */
const CALLED = ['Identifier', 'CloseParen', 'CloseSquareBracket']
const KEYWORDS = ['in', 'not', 'and', 'or', 'if', 'else', 'is']

/** Takes the last comma out of (a, b,), and makes a list of (a,), for which the parser has no form. */
function withoutTrailingCommas(tokens: readonly Token[]): Token[] {
  const kept: Token[] = []
  const open: { at: number; groups: boolean; commas: number }[] = []
  for (const current of tokens) {
    const before = kept.at(-1)
    if (
      current.type === 'OpenParen' ||
      current.type === 'OpenSquareBracket' ||
      current.type === 'OpenCurlyBracket'
    ) {
      const called = CALLED.includes(before?.type ?? '') && !is(before, 'Identifier', ...KEYWORDS)
      open.push({ at: kept.length, groups: current.type === 'OpenParen' && !called, commas: 0 })
    } else if (current.type === 'Comma') {
      const innermost = open.at(-1)
      if (innermost !== undefined) innermost.commas++
    } else if (current.type.startsWith('Close') && !/Statement|Expression/.test(current.type)) {
      const group = open.pop()
      if (group?.groups && before?.type === 'Comma') {
        kept.pop()
        if (group.commas === 1) {
          kept[group.at] = token('OpenSquareBracket', '[')
          kept.push(token('CloseSquareBracket', ']'))
          continue
        }
      }
    }
    kept.push(current)
  }
  return kept
}

/** Tests that take an argument, also without parentheses. */
const WITH_ARGUMENT = ['divisibleby', 'eq', 'equalto', 'ge', 'gt', 'in', 'le', 'lt', 'ne', 'sameas']

const OPENING = ['OpenParen', 'OpenSquareBracket', 'OpenCurlyBracket']
const CLOSING = ['CloseParen', 'CloseSquareBracket', 'CloseCurlyBracket']

/** A value without parentheses around it, with its fields, items and calls: `message.content`, `items[0]`. */
function bareArgument(tokens: readonly Token[], start: number): Token[] {
  let end = start + 1
  for (;;) {
    if (tokens[end]?.type === 'Dot') end += 2
    else if (tokens[end]?.type === 'OpenParen' || tokens[end]?.type === 'OpenSquareBracket') {
      let depth = 0
      do {
        const { type } = tokens[end]!
        if (OPENING.includes(type)) depth++
        else if (CLOSING.includes(type)) depth--
        end++
      } while (depth > 0 && end < tokens.length)
    } else return tokens.slice(start, end)
  }
}

/**
 * Writes what the parser does not know in forms that it does: {% do x %} sets a name that nobody reads, and a test with
 * an argument becomes a filter.
 */
function withKnownForms(tokens: readonly Token[]): Token[] {
  const known: Token[] = []
  for (let i = 0; i < tokens.length; i++) {
    const current = tokens[i]!
    if (is(current, 'Identifier', 'do') && is(tokens[i - 1], 'OpenStatement')) {
      known.push(token('Identifier', 'set'), token('Identifier', 'do'), token('Equals', '='))
      continue
    }
    if (!is(current, 'Identifier', 'is') || is(tokens[i - 1], 'OpenStatement', '.')) {
      known.push(current)
      continue
    }
    const negated = is(tokens[i + 1], 'Identifier', 'not')
    const name = tokens[i + (negated ? 2 : 1)]
    const next = tokens[i + (negated ? 3 : 2)]
    const parenthesised = is(next, 'OpenParen')
    const bare =
      is(name, 'Identifier', ...WITH_ARGUMENT) &&
      ['Identifier', 'StringLiteral', 'NumericLiteral'].includes(next?.type ?? '')
    if (name === undefined || !(parenthesised || bare)) {
      known.push(current)
      continue
    }
    const prefix = negated ? NEGATED_TEST_PREFIX : TEST_PREFIX
    known.push(token('Pipe', '|'), token('Identifier', prefix + name.value))
    i += negated ? 2 : 1
    if (bare) {
      const argument = bareArgument(tokens, i + 1)
      known.push(token('OpenParen', '('), ...argument, token('CloseParen', ')'))
      i += argument.length
    }
  }
  return known
}
