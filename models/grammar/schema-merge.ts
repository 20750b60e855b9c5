import { isDeepStrictEqual } from 'node:util'
import { GrammarError } from './errors.ts'

export type JsonObject = Record<string, unknown>

/** Schemas that all hold as one that says the same. @throws {GrammarError} naming the keyword where that is not known how */
export function merged(schemas: readonly unknown[], path: string): unknown {
  let result: JsonObject = {}
  for (const schema of schemas) {
    if (schema === true) continue
    if (typeof schema !== 'object' || schema === null || Array.isArray(schema)) {
      throw new GrammarError(`${path}: what has to hold besides is no schema, or nothing`)
    }
    result = both(result, schema as JsonObject, path)
  }
  return result
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

function both(one: JsonObject, other: JsonObject, path: string): JsonObject {
  const result = { ...one }
  for (const [name, value] of Object.entries(other)) {
    const before = result[name]
    result[name] =
      before === undefined || TEXTS.has(name) || isDeepStrictEqual(before, value)
        ? value
        : bothOf(name, before, value, path)
  }
  return result
}

function bothOf(name: string, one: unknown, other: unknown, path: string): unknown {
  switch (name) {
    case 'required':
      return [...new Set([one, other].flat())]
    case 'properties': {
      const result = { ...(one as JsonObject) }
      for (const [key, schema] of Object.entries(other as JsonObject)) {
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
      const types = [one].flat().filter(type => [other].flat().includes(type))
      if (types.length > 0) return types
      break
    }
    case 'enum': {
      const values = (one as unknown[]).filter(value =>
        (other as unknown[]).some(also => isDeepStrictEqual(value, also))
      )
      if (values.length > 0) return values
      break
    }
    default:
  }
  throw new GrammarError(`${path}/${name}: two schemas that both have to hold say different things of it`)
}
