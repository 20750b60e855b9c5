import { formatPercent, methodOf, replaced, strip, titled } from './methods.ts'
import { testOf } from './tests.ts'
import {
  Call,
  compare,
  equal,
  Float,
  iterate,
  type JsonStyle,
  kindOf,
  Namespace,
  numeric,
  repr,
  Tuple,
  toJson,
  truth,
  type Value,
  write
} from './values.ts'

type Filter = (value: Value, call: Call) => Value

/** What follows `|`: https://jinja.palletsprojects.com/en/stable/templates/#list-of-builtin-filters */
const FILTERS: Record<string, Filter> = {
  abs: value => (value instanceof Float ? new Float(Math.abs(value.value)) : Math.abs(number(value))),
  attr: (value, call) => attribute(value, call.text(0)),
  batch: (value, call) => {
    const items = iterate(value)
    const size = call.int(0)
    return Array.from({ length: Math.ceil(items.length / size) }, (_, i) => {
      const row = items.slice(i * size, (i + 1) * size)
      const fill = call.get(1, 'fill_with')
      return fill === undefined ? row : [...row, ...Array<Value>(size - row.length).fill(fill)]
    })
  },
  capitalize: value => methodOf(write(value), 'capitalize')!(new Call()),
  count: value => length(value),
  d: (value, call) => FILTERS.default!(value, call),
  default: (value, call) => {
    const missing = truth(call.get(1, 'boolean')) ? !truth(value) : value === undefined
    return missing
      ? call.args.length > 0 || call.named.has('default_value')
        ? call.get(0, 'default_value')
        : ''
      : value
  },
  dictsort: (value, call) => {
    if (!(value instanceof Map)) throw new Error(`dictsort of ${kindOf(value)}`)
    const by = call.text(1, 'by', 'key') === 'value' ? 1 : 0
    const fold = caseFolding(call.get(0, 'case_sensitive'))
    const pairs = [...value].map(pair => Tuple.of<Value>(...pair) as Tuple)
    pairs.sort((a, b) => compare(fold(a[by]), fold(b[by])))
    return truth(call.get(2, 'reverse')) ? pairs.reverse() : pairs
  },
  e: value => escaped(write(value)),
  escape: value => escaped(write(value)),
  first: value => iterate(value)[0],
  float: (value, call) => {
    const converted = typeof value === 'string' ? numberOf(value) : numeric(value)
    return converted === undefined ? (call.get(0, 'default') ?? new Float(0)) : new Float(converted)
  },
  format: (value, { args, named }) =>
    formatPercent(write(value), named.size > 0 ? new Map(named) : (Tuple.of(...args) as Tuple)),
  groupby: (value, call) => {
    const of = keyOf(call.get(0, 'attribute'))
    const groups: Tuple[] = []
    for (const item of iterate(value).toSorted((a, b) => compare(of(a), of(b)))) {
      const last = groups.at(-1)
      if (last !== undefined && equal(last[0], of(item))) (last[1] as Value[]).push(item)
      else groups.push(Tuple.of<Value>(of(item), [item]) as Tuple)
    }
    return groups
  },
  indent: (value, call) => {
    const width = call.get(0, 'width') ?? 4
    const space = typeof width === 'string' ? width : ' '.repeat(number(width))
    const blank = truth(call.get(2, 'blank'))
    const lines = write(value).split('\n')
    const first = truth(call.get(1, 'first'))
    return lines.map((line, i) => ((i === 0 ? first : blank || line !== '') ? space + line : line)).join('\n')
  },
  int: (value, call) => {
    if (typeof value === 'string') {
      const base = call.int(1, 'base', 10)
      const text = strip(value, null).replace(/^0[xob]/i, '')
      const whole = /^[+-]?[0-9a-z_]+$/i.test(text) ? Number.parseInt(text, base) : Number.NaN
      const cut = Number.isNaN(whole) ? numberOf(value) : whole
      return cut === undefined ? (call.get(0, 'default') ?? 0) : Math.trunc(cut)
    }
    const converted = numeric(value)
    return converted === undefined ? (call.get(0, 'default') ?? 0) : Math.trunc(converted)
  },
  items: value => (value === undefined ? [] : method(value, 'items')),
  join: (value, call) => {
    const of = keyOf(call.get(1, 'attribute'))
    return iterate(value)
      .map(item => write(of(item)))
      .join(call.text(0, 'd', ''))
  },
  last: value => iterate(value).at(-1),
  length: value => length(value),
  list: value => [...iterate(value)],
  lower: value => write(value).toLowerCase(),
  map: (value, call) => {
    const items = iterate(value)
    if (call.named.has('attribute')) {
      const of = keyOf(call.named.get('attribute'))
      return items.map(item => of(item) ?? call.named.get('default'))
    }
    const filter = filterOf(call.text(0))
    const rest = new Call(call.args.slice(1), call.named)
    return items.map(item => filter(item, rest))
  },
  max: (value, call) => extreme(value, call, 1),
  min: (value, call) => extreme(value, call, -1),
  pprint: value => repr(value),
  reject: (value, call) => iterate(value).filter(item => !passes(item, call)),
  rejectattr: (value, call) => iterate(value).filter(item => !attributePasses(item, call)),
  replace: (value, call) => replaced(write(value), call.text(0), call.text(1), call.int(2, 'count', -1)),
  reverse: value => (typeof value === 'string' ? [...value].reverse().join('') : iterate(value).toReversed()),
  round: (value, call) => {
    const digits = 10 ** call.int(0, 'precision', 0)
    const how = call.text(1, 'method', 'common')
    const scaled = number(value) * digits
    const rounded =
      how === 'ceil' ? Math.ceil(scaled) : how === 'floor' ? Math.floor(scaled) : halfToEven(scaled)
    return new Float(rounded / digits)
  },
  safe: value => value,
  select: (value, call) => iterate(value).filter(item => passes(item, call)),
  selectattr: (value, call) => iterate(value).filter(item => attributePasses(item, call)),
  sort: (value, call) => {
    const fold = caseFolding(call.get(1, 'case_sensitive'))
    const of = keyOf(call.get(2, 'attribute'))
    const sorted = iterate(value).toSorted((a, b) => compare(fold(of(a)), fold(of(b))))
    return truth(call.get(0, 'reverse')) ? sorted.reverse() : sorted
  },
  string: value => write(value),
  sum: (value, call) => {
    const of = keyOf(call.get(0, 'attribute'))
    const items = iterate(value).map(of)
    const sum = items.reduce((total: number, item) => total + number(item), number(call.get(1, 'start') ?? 0))
    return items.some(item => item instanceof Float) ? new Float(sum) : sum
  },
  title: value => titled(write(value)),
  tojson: (value, call) => toJson(value, jsonStyle(call)),
  trim: (value, call) => strip(write(value), call.get(0, 'chars')),
  truncate: (value, call) => {
    const text = [...write(value)]
    const size = call.int(0, 'length', 255)
    const end = call.text(2, 'end', '...')
    if (text.length <= size + call.int(3, 'leeway', 5)) return text.join('')
    const cut = text.slice(0, size - end.length).join('')
    return (
      (truth(call.get(1, 'killwords'))
        ? cut
        : cut.slice(0, Math.max(0, cut.lastIndexOf(' ')) || cut.length)) + end
    )
  },
  unique: (value, call) => {
    const fold = caseFolding(call.get(0, 'case_sensitive'))
    const of = keyOf(call.get(1, 'attribute'))
    const seen: Value[] = []
    return iterate(value).filter(item => {
      const key = fold(of(item))
      if (seen.some(other => equal(other, key))) return false
      seen.push(key)
      return true
    })
  },
  upper: value => write(value).toUpperCase(),
  wordcount: value => write(value).match(/[\p{L}\p{N}_]+/gu)?.length ?? 0
}

/** The filter of a name; an error names one that is not known. */
export function filterOf(name: string): Filter {
  const filter = Object.hasOwn(FILTERS, name) ? FILTERS[name] : undefined
  if (filter === undefined) throw new Error(`the filter "${name}" is not known here`)
  return filter
}

/** `value.name` or `value['name']`: what the value holds under the name. */
export function attribute(value: Value, name: Value): Value {
  if (value instanceof Namespace) return typeof name === 'string' ? value.fields.get(name) : undefined
  if (value instanceof Map) return value.get(name)
  if (Array.isArray(value) || typeof value === 'string') {
    const index = typeof name === 'boolean' ? Number(name) : name
    return typeof index === 'number' ? (Array.isArray(value) ? value : [...value]).at(index) : undefined
  }
  return undefined
}

/** `a.b.0` as filters take it, or an index; absent: the item itself. */
function keyOf(path: Value): (item: Value) => Value {
  if (path === undefined || path === null) return item => item
  if (typeof path === 'number') return item => attribute(item, path)
  const steps = write(path)
    .split('.')
    .map(step => (/^\d+$/.test(step) ? Number(step) : step))
  return item => steps.reduce<Value>((value, step) => attribute(value, step), item)
}

function passes(item: Value, { args, named }: Call): boolean {
  const [name, ...rest] = args
  return name === undefined ? truth(item) : testOf(write(name))(item, new Call(rest, named))
}

function attributePasses(item: Value, { args, named }: Call): boolean {
  return passes(keyOf(args[0])(item), new Call(args.slice(1), named))
}

function extreme(value: Value, call: Call, sign: 1 | -1): Value {
  const fold = caseFolding(call.get(0, 'case_sensitive'))
  const of = keyOf(call.get(1, 'attribute'))
  const items = iterate(value)
  if (items.length === 0) return undefined
  return items.reduce((best, item) => (sign * compare(fold(of(item)), fold(of(best))) > 0 ? item : best))
}

function caseFolding(sensitive: Value): (value: Value) => Value {
  return value => (typeof value === 'string' && !truth(sensitive) ? value.toLowerCase() : value)
}

function method(value: Value, name: string): Value {
  const found = methodOf(value, name)
  if (found === undefined) throw new Error(`${kindOf(value)} has no ${name}`)
  return found(new Call())
}

function length(value: Value): number {
  return iterate(value).length
}

function number(value: Value): number {
  const found = numeric(value)
  if (found === undefined) throw new Error(`${kindOf(value)} is no number`)
  return found
}

function numberOf(text: string): number | undefined {
  const trimmed = strip(text, null)
  const found = Number(trimmed)
  return trimmed === '' || Number.isNaN(found) ? undefined : found
}

function halfToEven(value: number): number {
  const floor = Math.floor(value)
  if (value - floor !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}

function escaped(text: string): string {
  const marks: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', "'": '&#39;', '"': '&#34;' }
  return text.replace(/[&<>'"]/g, mark => marks[mark]!)
}

/** Arguments of json.dumps, as transformers hands them on. */
function jsonStyle(call: Call): JsonStyle {
  const indent = call.get(1, 'indent')
  const separators = call.get(2, 'separators')
  return {
    ensureAscii: truth(call.get(0, 'ensure_ascii')),
    sortKeys: truth(call.get(3, 'sort_keys')),
    ...(indent === undefined || indent === null
      ? {}
      : { indent: typeof indent === 'string' ? indent : ' '.repeat(number(indent)) }),
    ...(Array.isArray(separators) && { separators: [write(separators[0]), write(separators[1])] })
  }
}
