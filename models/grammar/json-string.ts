import { ALL, classOf, type Range, without } from './ranges.ts'
import { either, type Rules } from './rules.ts'

/**
 * Strings of JSON, of any length or of bounded ones. What may follow is known beforehand of a token that stays within a
 * rule to its end; of one that goes beyond it is looked at in every step. So no rule is for one character: each is for all
 * that remains of the string, or of a block of characters, and goes on in the rule of one character less. With a count in
 * the grammar's own way, `char{0,500}`, a step took 100 to 300 ms on 32,000 tokens; with blocks it takes 0.3, and 10 where
 * a block ends.
 */

/** Characters that stand for themselves in a string. */
export const PLAIN: readonly Range[] = without(ALL, [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c]
])

/** Characters of a block: each is a state that all tokens are held against when the grammar is compiled. */
const BLOCK = 32

/** A string of `min` to `max` characters, plain or escaped: each counts as one. */
export function jsonString(rules: Rules, min = 0, max = Number.POSITIVE_INFINITY): string {
  return `"\\"" ${remaining(rules, min, max)}`
}

/** The rule for what remains of a string of which `min` to `max` characters are to come, its end with it. */
function remaining(rules: Rules, min: number, max: number): string {
  if (min < BLOCK && (max < BLOCK || max === Number.POSITIVE_INFINITY)) return ending(rules, min, max)
  const name = `string-${min}-${max === Number.POSITIVE_INFINITY ? 'any' : max}`
  return rules.shared(name, () => {
    const longer = `${block(rules, BLOCK)} ${remaining(rules, Math.max(0, min - BLOCK), max - BLOCK)}`
    return min < BLOCK && max !== Number.POSITIVE_INFINITY
      ? `${longer} | ${ending(rules, min, BLOCK - 1)}`
      : longer
  })
}

/** Fewer characters than a block, or from there on any, and the end. */
function ending(rules: Rules, min: number, max: number): string {
  if (min === 0 && max === 0) return '"\\""'
  const isAny = max === Number.POSITIVE_INFINITY
  if (min === 0 && isAny) return rest(rules)
  return rules.shared(`end-${min}-${isAny ? 'any' : max}`, () => {
    const more = oneAnd(rules, ending(rules, Math.max(0, min - 1), max - 1))
    return min === 0 ? `"\\"" | ${more}` : more
  })
}

/** So many characters. */
function block(rules: Rules, characters: number): string {
  return rules.shared(`block-${characters}`, () =>
    oneAnd(rules, characters === 1 ? '' : block(rules, characters - 1))
  )
}

/** The rest of a string, its end with it. */
function rest(rules: Rules): string {
  return rules.shared('rest', () => `"\\"" | ${oneAnd(rules, 'rest')}`)
}

/** One character, plain or escaped, and what follows it. */
function oneAnd(rules: Rules, next: string): string {
  return `${classOf(PLAIN)} ${next} | "\\\\" ${jsonEscape(rules)} ${next}`
}

/** What stands behind a backslash. */
function jsonEscape(rules: Rules): string {
  return rules.shared('escape', () => {
    const hex = '[0-9a-fA-F]'
    return either(['["\\U0000005c/bfnrt]', `"u" ([0-9a-cA-CeEfF] ${hex} | [dD] [0-7]) ${hex} ${hex}`])
  })
}
