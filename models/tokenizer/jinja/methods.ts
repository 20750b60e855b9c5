import {
  type Call,
  type Callable,
  compare,
  contains,
  equal,
  Float,
  iterate,
  kindOf,
  repr,
  Tuple,
  type Value,
  write
} from './values.ts'

/** Methods of Python's str, list and dict, as templates call them. */
type Method<T> = (self: T, call: Call) => Value

/** What str.isspace() says, which is not quite what JavaScript trims. */
const SPACE = '\\t-\\r\\x1c- \\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000'
const SPACES = new RegExp(`[${SPACE}]+`)
const LINE_END = /\r\n|[\n\r\v\f\x85\u2028\u2029]/

/** str.strip(), lstrip() or rstrip(): white space, or any of the characters that are given. */
export function strip(text: string, characters: Value, ends: 'both' | 'left' | 'right' = 'both'): string {
  if (typeof characters !== 'string') {
    const left = ends === 'right' ? text : text.replace(new RegExp(`^[${SPACE}]+`), '')
    return ends === 'left' ? left : left.slice(0, left.length - trailingSpaces(left))
  }
  const unwanted = new Set(characters)
  const letters = [...text]
  let start = 0
  let end = letters.length
  if (ends !== 'right') while (start < end && unwanted.has(letters[start]!)) start++
  if (ends !== 'left') while (end > start && unwanted.has(letters[end - 1]!)) end--
  return letters.slice(start, end).join('')
}

/** A pattern that ends in `$` would be tried at every character. */
function trailingSpaces(text: string): number {
  let end = text.length
  while (end > 0 && SPACES.test(text[end - 1]!)) end--
  return text.length - end
}

/** str.split(), or rsplit() where `fromRight`. */
function split(text: string, call: Call, fromRight: boolean): string[] {
  const separator = call.get(0, 'sep')
  const most = call.int(1, 'maxsplit', -1)
  if (separator === undefined || separator === null) {
    const words = strip(text, null)
      .split(SPACES)
      .filter(word => word !== '')
    if (most < 0 || words.length <= most + 1) return words
    return splitSpaces(strip(text, null), most, fromRight)
  }
  const parts = text.split(call.text(0, 'sep'))
  if (separator === '') throw new Error('split() with an empty separator')
  if (most < 0 || parts.length <= most + 1) return parts
  const glue = separator as string
  return fromRight
    ? [parts.slice(0, parts.length - most).join(glue), ...parts.slice(parts.length - most)]
    : [...parts.slice(0, most), parts.slice(most).join(glue)]
}

function splitSpaces(text: string, most: number, fromRight: boolean): string[] {
  const gaps = [...text.matchAll(new RegExp(SPACES, 'g'))]
  const chosen = fromRight ? gaps.slice(gaps.length - most) : gaps.slice(0, most)
  const parts: string[] = []
  let from = 0
  for (const { index, 0: gap } of chosen) {
    parts.push(text.slice(from, index))
    from = index + gap.length
  }
  return [...parts, text.slice(from)]
}

function partition(text: string, separator: string, at: number, whole: 'first' | 'last'): Tuple {
  if (at < 0) return whole === 'first' ? (Tuple.of(text, '', '') as Tuple) : (Tuple.of('', '', text) as Tuple)
  return Tuple.of(text.slice(0, at), separator, text.slice(at + separator.length)) as Tuple
}

/** str.startswith() or endswith(): of a text, or of one of a tuple. */
function oneOf(call: Call, test: (affix: string) => boolean): boolean {
  const affix = call.get(0)
  return Array.isArray(affix) ? affix.some(item => test(write(item))) : test(call.text(0))
}

/** Code points before index `at` of JavaScript's. */
function position(text: string, at: number): number {
  return at < 0 ? -1 : [...text.slice(0, at)].length
}

const capitalized = (text: string) => {
  const [first = '', ...rest] = text
  return first.toUpperCase() + rest.join('').toLowerCase()
}

export const titled = (text: string) => text.replace(/\p{L}+/gu, word => capitalized(word))

/** str.format(): {}, {0}, {name}, and doubled braces; formats behind a colon are those of `formatted`. */
export function formatBraces(text: string, { args, named }: Call): string {
  let next = 0
  return text.replace(
    /\{\{|\}\}|\{(\w*)(?::([^{}]*))?\}/g,
    (all, name: string | undefined, spec?: string) => {
      if (name === undefined) return all[0]!
      const value = name === '' ? args[next++] : /^\d+$/.test(name) ? args[Number(name)] : named.get(name)
      if (value === undefined) throw new Error(`format() has nothing for {${name}}`)
      return spec === undefined || spec === '' ? write(value) : formatted(value, spec)
    }
  )
}

/** A value by a specification: [fill][<^>][0][width][,][.precision][d|f|s|x|%]. */
function formatted(value: Value, spec: string): string {
  const [, fill = ' ', align, zero, width = '0', comma, precision, type = ''] =
    /^(?:(.)?(?=[<^>]))?([<^>])?(0)?(\d+)?(,)?(?:\.(\d+))?([dfsx%])?$/u.exec(spec) ??
    fail(`the format ${JSON.stringify(spec)} is not known here`)
  const number = value instanceof Float ? value.value : typeof value === 'number' ? value : undefined
  let text: string
  if (number === undefined || type === 's')
    text = write(value).slice(0, precision === undefined ? undefined : Number(precision))
  else if (type === 'x') text = number.toString(16)
  else if (type === '%') text = `${(number * 100).toFixed(Number(precision ?? 6))}%`
  else if (type === 'f' || precision !== undefined) text = number.toFixed(Number(precision ?? 6))
  else text = write(value)
  if (comma !== undefined) text = text.replace(/\B(?<!\.\d*)(?=(\d{3})+(?!\d))/g, ',')
  const missing = Math.max(0, Number(width) - [...text].length)
  const padding = zero === undefined ? fill : '0'
  const side = align ?? (number === undefined ? '<' : '>')
  if (side === '<') return text + padding.repeat(missing)
  if (side === '>') return padding.repeat(missing) + text
  return padding.repeat(Math.floor(missing / 2)) + text + padding.repeat(Math.ceil(missing / 2))
}

/** `text % values`: %s, %d, %i, %r, %f, %x, %(name)s and %%. */
export function formatPercent(text: string, values: Value): string {
  const list = values instanceof Tuple ? values : [values]
  let next = 0
  const result = text.replace(
    /%(?:\((\w+)\))?(-?0?\d*)(?:\.(\d+))?([sdirfx%])/g,
    (_, name, width: string, digits, type) => {
      if (type === '%') return '%'
      if (name === undefined && next >= list.length) throw new Error('not enough values for a format')
      const value = name === undefined ? list[next++] : values instanceof Map ? values.get(name) : undefined
      const number = value instanceof Float ? value.value : Number(value)
      const converted: Record<string, () => string> = {
        s: () => write(value),
        r: () => repr(value),
        f: () => number.toFixed(Number(digits ?? 6)),
        x: () => Math.trunc(number).toString(16)
      }
      const piece = (converted[type] ?? (() => String(Math.trunc(number))))()
      const size = Math.abs(Number.parseInt(width || '0', 10))
      if (width.startsWith('-')) return piece.padEnd(size)
      return piece.padStart(size, width.startsWith('0') ? '0' : ' ')
    }
  )
  return result
}

function fail(message: string): never {
  throw new Error(message)
}

const STR: Record<string, Method<string>> = {
  capitalize: text => capitalized(text),
  count: (text, call) => text.split(call.text(0)).length - 1,
  endswith: (text, call) => oneOf(call, affix => text.endsWith(affix)),
  find: (text, call) => position(text, text.indexOf(call.text(0))),
  format: (text, call) => formatBraces(text, call),
  index: (text, call) => {
    const at = text.indexOf(call.text(0))
    return at < 0 ? fail('index(): not found') : position(text, at)
  },
  isalnum: text => /^[\p{L}\p{N}]+$/u.test(text),
  isalpha: text => /^\p{L}+$/u.test(text),
  isdigit: text => /^\p{Nd}+$/u.test(text),
  islower: text => text !== text.toUpperCase() && text === text.toLowerCase(),
  isnumeric: text => /^\p{N}+$/u.test(text),
  isspace: text => text !== '' && strip(text, null) === '',
  isupper: text => text !== text.toLowerCase() && text === text.toUpperCase(),
  join: (text, call) =>
    iterate(call.get(0))
      .map(item => (typeof item === 'string' ? item : fail(`join() of ${kindOf(item)}`)))
      .join(text),
  lower: text => text.toLowerCase(),
  lstrip: (text, call) => strip(text, call.get(0), 'left'),
  partition: (text, call) => partition(text, call.text(0), text.indexOf(call.text(0)), 'first'),
  removeprefix: (text, call) => (text.startsWith(call.text(0)) ? text.slice(call.text(0).length) : text),
  removesuffix: (text, call) =>
    text.endsWith(call.text(0)) ? text.slice(0, text.length - call.text(0).length) : text,
  replace: (text, call) => replaced(text, call.text(0, 'old'), call.text(1, 'new'), call.int(2, 'count', -1)),
  rfind: (text, call) => position(text, text.lastIndexOf(call.text(0))),
  rpartition: (text, call) => partition(text, call.text(0), text.lastIndexOf(call.text(0)), 'last'),
  rsplit: (text, call) => split(text, call, true),
  rstrip: (text, call) => strip(text, call.get(0), 'right'),
  split: (text, call) => split(text, call, false),
  splitlines: text => {
    const lines = text.split(LINE_END)
    return lines.at(-1) === '' ? lines.slice(0, -1) : lines
  },
  startswith: (text, call) => oneOf(call, affix => text.startsWith(affix)),
  strip: (text, call) => strip(text, call.get(0)),
  title: text => titled(text),
  upper: text => text.toUpperCase(),
  zfill: (text, call) => text.padStart(call.int(0), '0')
}

/** str.replace() */
export function replaced(text: string, from: string, to: string, count: number): string {
  if (count < 0) return text.replaceAll(from, () => to)
  const parts = text.split(from)
  const many = parts.slice(0, count + 1).join(to)
  return parts.length > count + 1 ? [many, ...parts.slice(count + 1)].join(from) : many
}

/** What a method that changes its list gives back. */
const done = (_changed: unknown): null => null

const LIST: Record<string, Method<Value[]>> = {
  append: (list, call) => done(list.push(call.get(0))),
  clear: list => done(list.splice(0)),
  copy: list => [...list],
  count: (list, call) => list.filter(item => equal(item, call.get(0))).length,
  extend: (list, call) => done(list.push(...iterate(call.get(0)))),
  index: (list, call) => {
    const at = list.findIndex(item => equal(item, call.get(0)))
    return at < 0 ? fail('index(): not in the list') : at
  },
  insert: (list, call) => done(list.splice(call.int(0), 0, call.get(1))),
  pop: (list, call) => {
    if (list.length === 0) fail('pop() of an empty list')
    return list.splice(call.int(0, undefined, -1), 1)[0]
  },
  remove: (list, call) => {
    const at = list.findIndex(item => equal(item, call.get(0)))
    return at < 0 ? fail('remove(): not in the list') : done(list.splice(at, 1))
  },
  reverse: list => done(list.reverse()),
  sort: list => done(list.sort(compare))
}

const DICT: Record<string, Method<Map<Value, Value>>> = {
  copy: dict => new Map(dict),
  get: (dict, call) => (dict.has(call.get(0)) ? dict.get(call.get(0)) : (call.get(1) ?? null)),
  items: dict => [...dict].map(pair => Tuple.of(...pair) as Tuple),
  keys: dict => [...dict.keys()],
  pop: (dict, call) => {
    const key = call.get(0)
    if (!contains(dict, key)) return call.args.length > 1 ? call.args[1] : fail(`pop(): no key ${repr(key)}`)
    const value = dict.get(key)
    dict.delete(key)
    return value
  },
  setdefault: (dict, call) => {
    if (!dict.has(call.get(0))) dict.set(call.get(0), call.get(1) ?? null)
    return dict.get(call.get(0))
  },
  update: (dict, { args, named }) => {
    const [other] = args
    if (other instanceof Map) for (const [key, value] of other) dict.set(key, value)
    for (const [key, value] of named) dict.set(key, value)
    return null
  },
  values: dict => [...dict.values()]
}

/** A method of a value, bound to it; undefined where Python has none of the name, or it is not known here. */
export function methodOf(value: Value, name: string): Callable | undefined {
  if (typeof value === 'string') return bound(STR, value, name)
  if (Array.isArray(value)) return bound(LIST, value, name)
  return value instanceof Map ? bound(DICT, value, name) : undefined
}

function bound<T>(methods: Record<string, Method<T>>, self: T, name: string): Callable | undefined {
  const method = Object.hasOwn(methods, name) ? methods[name] : undefined
  return method && (call => method(self, call))
}
