import { isDeepStrictEqual } from 'node:util'
import { GrammarError, NothingFitsError } from './errors.ts'

export type JsonObject = Record<string, unknown>

/** Schemas that all hold as one that says the same. @throws {GrammarError} naming the keyword where that is not known how */
export function merged(schemas: readonly unknown[], path: string): unknown {
  const result: JsonObject = {}
  for (const schema of schemas) {
    if (schema === true) continue
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
      throw new GrammarError(`${path}: what has to hold besides is no schema, or nothing`)
    }
    mergeInto(result, schema as JsonObject, path)
  }
  // One that names its type without null takes none, whatever the others say.
  if (result.nullable === true && schemas.some(isWithoutNull)) delete result.nullable
  return result
}

function isWithoutNull(schema: unknown): boolean {
  return isObject(schema) && schema.type !== undefined && schema.nullable !== true
}

const TEXTS = new Set([
  'title',
  'description',
  'default',
  'examples',
  'example',
  '$comment',
  '$defs',
  'definitions'
])

function mergeInto(result: JsonObject, other: JsonObject, path: string): void {
  for (const [name, value] of Object.entries(other)) {
    const before = Object.hasOwn(result, name) ? result[name] : undefined
    result[name] =
      before === undefined || TEXTS.has(name) || isDeepStrictEqual(before, value)
        ? value
        : bothOf(name, before, value, path)
  }
}

function bothOf(name: string, one: unknown, other: unknown, path: string): unknown {
  switch (name) {
    case 'allOf':
      if (Array.isArray(one) && Array.isArray(other)) return [...one, ...other]
      break
    case 'required':
      return [...new Set([one, other].flat())]
    case 'properties': {
      if (!isObject(one) || !isObject(other)) throw new GrammarError(`${path}/properties: give an object`)
      const result = { ...one }
      for (const [key, schema] of Object.entries(other)) {
        result[key] = Object.hasOwn(result, key) ? { allOf: [result[key], schema] } : schema
      }
      return result
    }
    case 'minimum':
    case 'minLength':
    case 'minItems':
      return Math.max(Number(one), Number(other))
    case 'maximum':
    case 'maxLength':
    case 'maxItems':
      return Math.min(Number(one), Number(other))
    case 'type': {
      const others = new Set([other].flat())
      const types = [one].flat().filter(type => others.has(type))
      if (types.length > 0) return types
      throw new NothingFitsError(`${path}/type: two schemas that both have to hold have no type in common`)
    }
    case 'enum': {
      if (!Array.isArray(one) || !Array.isArray(other)) {
        throw new GrammarError(`${path}/enum: give a list of values`)
      }
      const others = new Set(other.map(textOf))
      const values = one.filter(value => others.has(textOf(value)))
      if (values.length > 0) return values
      break
    }
    default:
  }
  throw new GrammarError(`${path}/${name}: two schemas that both have to hold say different things of it`)
}

/** The same of equal values, whichever order their keys are in. */
function textOf(value: unknown): string {
  return JSON.stringify(value, (_, part: unknown) =>
    isObject(part) ? Object.fromEntries(Object.entries(part).sort(([a], [b]) => (a < b ? -1 : 1))) : part
  )
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}
