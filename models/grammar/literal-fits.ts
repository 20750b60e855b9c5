import { GrammarError } from './errors.ts'
import { OF_LISTS, OF_OBJECTS } from './keywords.ts'
import type { Bounds } from './number-range.ts'
import type { JsonObject } from './schema-merge.ts'

/** Keywords of which a list or an object that is written out in the schema cannot be judged here. */
const OF_PARTS = [...OF_OBJECTS, ...OF_LISTS]

/**
 * Whether a value that a schema names (by `enum` or `const`) keeps to what it says besides: the lengths and the pattern of
 * a text, the bounds of a number.
 *
 * @throws {GrammarError} for a list or an object where the schema says something of its parts
 */
export function literalFits(
  value: unknown,
  schema: JsonObject,
  { bounds, path }: { bounds: Bounds; path: string }
): boolean {
  if (typeof value === 'string') return textFits(value, schema, path)
  if (typeof value === 'number') return numberFits(value, schema, bounds)
  const said =
    typeof value === 'object' && value !== null && OF_PARTS.find(name => schema[name] !== undefined)
  if (said) {
    throw new GrammarError(
      `${path}/${said}: this cannot be kept to beside lists or objects that are written out in the schema`
    )
  }
  return true
}

function textFits(text: string, { minLength = 0, maxLength, pattern }: JsonObject, path: string): boolean {
  const characters = [...text].length
  if (typeof minLength === 'number' && characters < minLength) return false
  if (typeof maxLength === 'number' && characters > maxLength) return false
  if (typeof pattern !== 'string') return true
  let regex: RegExp
  try {
    regex = new RegExp(pattern, 'u')
  } catch {
    // What the system says of it quotes all of it.
    throw new GrammarError(`${path}/pattern: this is no regular expression`)
  }
  return regex.test(text)
}

function numberFits(number: number, { multipleOf }: JsonObject, bounds: Bounds): boolean {
  const { min = Number.NEGATIVE_INFINITY, max = Number.POSITIVE_INFINITY, aboveMin, belowMax } = bounds
  if (aboveMin ? number <= min : number < min) return false
  if (belowMax ? number >= max : number > max) return false
  return typeof multipleOf !== 'number' || Number.isInteger(number / multipleOf)
}
