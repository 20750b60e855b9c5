import { RequestError } from '../errors.ts'

/** Names of so few letters are not taken for misspelt others. */
const SHORTEST = 4
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

/** One letter too many, too few or another, or two swapped; in another case, or with other separators. */
function isNear(name: string, known: string): boolean {
  if (name.length < SHORTEST || known.length < SHORTEST || Math.abs(name.length - known.length) > 2)
    return false
  const plain = (text: string) => text.toLowerCase().replace(/[-_]/g, '')
  const [a, b] = [plain(name), plain(known)]
  return a === b || isOneEditAway(a, b)
}

function isOneEditAway(a: string, b: string): boolean {
  if (Math.abs(a.length - b.length) > 1) return false
  let start = 0
  while (start < a.length && start < b.length && a[start] === b[start]) start++
  let end = 0
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end++
  const [left, right] = [a.slice(start, a.length - end), b.slice(start, b.length - end)]
  if (left.length <= 1 && right.length <= 1) return true
  return left.length === 2 && right.length === 2 && left[0] === right[1] && left[1] === right[0]
}
