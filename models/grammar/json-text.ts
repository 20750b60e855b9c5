import { ALL, classOf, type Range, without } from './ranges.ts'
import { either, literal, type Rules, repeated } from './rules.ts'

/** JSON as answers may write it: white space is one blank at most, so that a weak model does not go on in it for ever. */

/** Between two of JSON's tokens. */
export const BLANK = '" "?'
/** Digits that a number may have on either side of the point: what doubles tell apart. */
export const MAX_DIGITS = 16

/** Characters that stand for themselves in a string. */
export const PLAIN: readonly Range[] = without(ALL, [
  [0, 0x1f],
  [0x22, 0x22],
  [0x5c, 0x5c]
])

/** A character of a string, plain or escaped: each counts as one. */
export function jsonChar(rules: Rules): string {
  return rules.shared('char', () => `${classOf(PLAIN)} | "\\\\" ${jsonEscape(rules)}`)
}

/** What stands behind a backslash. */
function jsonEscape(rules: Rules): string {
  return rules.shared('escape', () => {
    const hex = '[0-9a-fA-F]'
    return either(['["\\U0000005c/bfnrt]', `"u" ([0-9a-cA-CeEfF] ${hex} | [dD] [0-7]) ${hex} ${hex}`])
  })
}

/**
 * A string without a `max` is a rule that goes on in itself, up to its end: whether a token of several characters may follow
 * is then known beforehand, where a rule for one character would have each looked at in every step.
 */
export function jsonString(rules: Rules, min = 0, max?: number): string {
  if (max !== undefined) return `"\\"" ${repeated(jsonChar(rules), min, max)} "\\""`
  const least = min === 0 ? '' : `${repeated(jsonChar(rules), min, min)} `
  return `"\\"" ${least}${rest(rules)}`
}

/** The rest of a string, its end with it. */
function rest(rules: Rules): string {
  return rules.shared('rest', () => {
    const more = [`${classOf(PLAIN)} rest`, `"\\\\" ${jsonEscape(rules)} rest`]
    return ['"\\""', ...more].join(' | ')
  })
}

export function jsonInteger(rules: Rules): string {
  return rules.shared('integer', () => `"-"? ("0" | [1-9] [0-9]{0,${MAX_DIGITS - 1}})`)
}

export function jsonNumber(rules: Rules): string {
  return rules.shared('number', () => {
    const integer = jsonInteger(rules)
    return `${integer} ("." [0-9]{1,${MAX_DIGITS}})? ([eE] [-+]? [0-9]{1,2})?`
  })
}

/** Any JSON at all. */
export function jsonValue(rules: Rules): string {
  return rules.shared('value', () => {
    const scalars = [jsonString(rules), jsonNumber(rules), '"true"', '"false"', '"null"']
    return [...scalars, jsonArray('value'), jsonMap(jsonString(rules), 'value')].join(' | ')
  })
}

/** A list of so many of the same. */
export function jsonArray(item: string, min = 0, max?: number): string {
  if (max === 0) return `"[" ${BLANK} "]"`
  const more = repeated(
    `${BLANK} "," ${BLANK} ${item}`,
    Math.max(0, min - 1),
    max === undefined ? undefined : max - 1
  )
  const some = `"[" ${BLANK} ${item} ${more} ${BLANK} "]"`
  return min > 0 ? some : either([`"[" ${BLANK} "]"`, some])
}

/** An object of any keys. */
export function jsonMap(key: string, value: string, max?: number): string {
  const empty = `"{" ${BLANK} "}"`
  if (max === 0) return empty
  const entry = jsonEntry(key, value)
  const more = repeated(`${BLANK} "," ${BLANK} ${entry}`, 0, max === undefined ? undefined : max - 1)
  return either([empty, `"{" ${BLANK} ${entry} ${more} ${BLANK} "}"`])
}

/** A key and its value. */
export function jsonEntry(key: string, value: string): string {
  return `${key} ${BLANK} ":" ${BLANK} ${value}`
}

/** A value as it is. */
export function jsonLiteral(value: unknown): string {
  return literal(JSON.stringify(value))
}
