import { RequestError } from '../errors.ts'
import { isNear } from '../near-name.ts'

/** Each is compared with all that are known. */
const MAX_UNKNOWN = 256

/**
 * Fields of a body that nobody knows.
 *
 * @param known those that are read, refused, or without effect on an answer
 * @throws {RequestError} for one that is nearly the name of a known one: it is misspelt; for more than MAX_UNKNOWN
 */
export function unknownFields(body: unknown, known: ReadonlySet<string>, path = ''): string[] {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) return []
  const unknown = Object.keys(body).filter(name => !known.has(name))
  if (unknown.length > MAX_UNKNOWN) throw new RequestError(`${unknown.length} fields that nobody knows`)
  for (const name of unknown) {
    const meant = [...known].find(other => isNear(name, other))
    if (meant !== undefined) {
      const field = `${path}${name}`.slice(0, 100)
      throw new RequestError(`${field}: there is no such field; is "${meant}" meant?`, field)
    }
  }
  return unknown.map(name => `${path}${name}`)
}

/**
 * Fields of the objects of a list that nobody knows, each once; these are no refusal, as programs send along what other
 * servers answer with.
 */
export function unknownWithin(list: unknown, known: ReadonlySet<string>, path: string): string[] {
  if (!Array.isArray(list)) return []
  const items: unknown[] = list
  const names = items.flatMap(item => (typeof item === 'object' && item !== null ? Object.keys(item) : []))
  return [...new Set(names)].filter(name => !known.has(name)).map(name => `${path}.${name}`)
}

/** A field of a body that is not checked yet. */
export function fieldOf(body: unknown, name: string): unknown {
  return typeof body === 'object' && body !== null && Object.hasOwn(body, name)
    ? (body as Record<string, unknown>)[name]
    : undefined
}
