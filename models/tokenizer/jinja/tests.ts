import { type Call, compare, contains, equal, Float, numeric, type Value } from './values.ts'

/** What follows `is`: https://jinja.palletsprojects.com/en/stable/templates/#list-of-builtin-tests */
export const TESTS: Record<string, (value: Value, call: Call) => boolean> = {
  boolean: value => typeof value === 'boolean',
  callable: value => typeof value === 'function',
  defined: value => value !== undefined,
  divisibleby: (value, call) => whole(value) % call.int(0) === 0,
  eq: (value, call) => equal(value, call.get(0)),
  equalto: (value, call) => equal(value, call.get(0)),
  even: value => whole(value) % 2 === 0,
  false: value => value === false,
  float: value => value instanceof Float,
  ge: (value, call) => compare(value, call.get(0)) >= 0,
  greaterthan: (value, call) => compare(value, call.get(0)) > 0,
  gt: (value, call) => compare(value, call.get(0)) > 0,
  in: (value, call) => contains(call.get(0), value),
  integer: value => typeof value === 'number',
  iterable: value =>
    typeof value === 'string' || Array.isArray(value) || value instanceof Map || value === undefined,
  le: (value, call) => compare(value, call.get(0)) <= 0,
  lessthan: (value, call) => compare(value, call.get(0)) < 0,
  lower: value => typeof value === 'string' && value !== value.toUpperCase() && value === value.toLowerCase(),
  lt: (value, call) => compare(value, call.get(0)) < 0,
  mapping: value => value instanceof Map,
  ne: (value, call) => !equal(value, call.get(0)),
  none: value => value === null,
  number: value => numeric(value) !== undefined,
  odd: value => Math.abs(whole(value) % 2) === 1,
  sameas: (value, call) => value === call.get(0),
  sequence: value =>
    typeof value === 'string' || Array.isArray(value) || value instanceof Map || value === undefined,
  string: value => typeof value === 'string',
  true: value => value === true,
  undefined: value => value === undefined,
  upper: value => typeof value === 'string' && value !== value.toLowerCase() && value === value.toUpperCase()
}

/** The test of a name; an error names one that is not known. */
export function testOf(name: string): (value: Value, call: Call) => boolean {
  const test = Object.hasOwn(TESTS, name) ? TESTS[name] : undefined
  if (test === undefined) throw new Error(`the test "is ${name}" is not known here`)
  return test
}

function whole(value: Value): number {
  const number = numeric(value)
  if (number === undefined) throw new Error('a test of numbers got something else')
  return number
}
