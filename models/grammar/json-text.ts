import { jsonString } from './json-string.ts'
import { either, literal, type Rules, repeated } from './rules.ts'

/** JSON as answers may write it: white space is one blank at most, so that a weak model does not go on in it for ever. */

/** Between two of JSON's tokens. */
export const BLANK = '" "?'
/** Digits that a number may have on either side of the point: what doubles tell apart. */
export const MAX_DIGITS = 16

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
