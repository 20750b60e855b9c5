import { randomInt } from 'node:crypto'
import type { ControlToken } from './control-tokens.ts'
import { ChatTemplateError } from './errors.ts'

/** Hides what spells a control token from the splitting of a rendered template, and shows it again afterwards. */
export interface Guard {
  hide(text: string): string
  show(text: string): string
}

/** 16 private-use characters: 6400^16 possibilities, so no text can contain one by design or by chance. */
const PLACEHOLDER_LENGTH = 16

/**
 * Replaces the first character of everything in a text that spells a control token, or that could become one together
 * with what the template writes behind it, by an unguessable placeholder. The rest of the text stays as it is, so
 * that what a template does with contents (trim, split, compare) works as ever.
 */
export function createGuard(tokens: ControlToken[]): Guard {
  const byFirst = Map.groupBy(
    tokens.map(token => token.content),
    content => content[0]!
  )
  const placeholders = new Map([...byFirst.keys()].map(first => [first, placeholder()]))
  const spellsControl = (text: string, at: number) =>
    byFirst.get(text[at]!)?.some(content => {
      const length = Math.min(content.length, text.length - at)
      return text.startsWith(content.slice(0, length), at)
    }) ?? false
  return {
    hide: text => {
      let result = ''
      let from = 0
      for (let at = 0; at < text.length; at++) {
        if (!spellsControl(text, at)) continue
        result += text.slice(from, at) + placeholders.get(text[at]!)!
        from = at + 1
      }
      return result + text.slice(from)
    },
    show: text => {
      let result = text
      for (const [first, hidden] of placeholders) result = result.replaceAll(hidden, first)
      return result
    }
  }
}

/** Deeper than any schema of a tool's arguments. */
const MAX_DEPTH = 100

/**
 * The same value with every text in it hidden, names of fields as well: whoever asks may write all of it.
 *
 * @throws {ChatTemplateError} when it is nested too deeply
 */
export function hiddenIn<T>(value: T, guard: Guard, depth = 0): T {
  if (depth > MAX_DEPTH)
    throw new ChatTemplateError(`what the template is given is nested more than ${MAX_DEPTH} deep`)
  const hidden = (item: unknown) => hiddenIn(item, guard, depth + 1)
  if (typeof value === 'string') return guard.hide(value) as T
  if (Array.isArray(value)) return value.map(hidden) as T
  if (typeof value !== 'object' || value === null) return value
  return Object.fromEntries(
    Object.entries(value).map(([name, item]) => [guard.hide(name), hidden(item)])
  ) as T
}

function placeholder(): string {
  const codes = Array.from({ length: PLACEHOLDER_LENGTH }, () => randomInt(0xe000, 0xf900))
  return String.fromCharCode(...codes)
}
