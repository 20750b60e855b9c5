/**
 * Values as Jinja's templates see them, that is Python's: what is true, what is equal, and how each is written.
 *
 * None is null, an undefined name is undefined, an int a number, a float a Float, a list an array, a dict a Map.
 */
export type Value =
  | null
  | undefined
  | boolean
  | number
  | string
  | Float
  | Value[]
  | Map<Value, Value>
  | Namespace
  | Callable

/** A float: 1.0 is not written as 1. */
export class Float {
  readonly value: number

  constructor(value: number) {
    this.value = value
  }
}

/** A tuple is a list that is written with parentheses. */
export class Tuple extends Array<Value> {
  static override get [Symbol.species]() {
    return Array
  }
}

/** An object with fields: a namespace(), which templates may write to, or the `loop` of a loop. */
export class Namespace {
  readonly fields: Map<string, Value>

  constructor(fields: Map<string, Value> = new Map()) {
    this.fields = fields
  }
}

/** What a call hands over. */
export class Call {
  readonly args: readonly Value[]
  readonly named: ReadonlyMap<string, Value>

  constructor(args: readonly Value[] = [], named: ReadonlyMap<string, Value> = new Map()) {
    this.args = args
    this.named = named
  }

  /** Argument `index`, or that of the name. */
  get(index: number, name?: string): Value {
    if (index < this.args.length) return this.args[index]
    return name === undefined ? undefined : this.named.get(name)
  }

  text(index: number, name?: string, otherwise?: string): string {
    const value = this.get(index, name) ?? otherwise
    if (typeof value === 'string') return value
    throw new Error(`argument ${name ?? index + 1} is ${kindOf(value)}, not a str`)
  }

  int(index: number, name?: string, otherwise?: number): number {
    const value = this.get(index, name) ?? otherwise
    if (typeof value === 'number' || typeof value === 'boolean') return Number(value)
    throw new Error(`argument ${name ?? index + 1} is ${kindOf(value)}, not an int`)
  }
}

export type Callable = (call: Call) => Value

/** What came as JSON. */
export function fromJson(value: unknown): Value {
  if (typeof value === 'number') return Number.isInteger(value) ? value : new Float(value)
  if (Array.isArray(value)) return value.map(fromJson)
  if (typeof value === 'object' && value !== null) {
    return new Map(Object.entries(value).map(([key, item]) => [key, fromJson(item)]))
  }
  if (value === null || typeof value === 'string' || typeof value === 'boolean') return value
  return undefined
}

/** Python's name of a value's type. */
export function kindOf(value: Value): string {
  if (value === undefined) return 'undefined'
  if (value === null) return 'None'
  if (typeof value === 'boolean') return 'a bool'
  if (typeof value === 'number') return 'an int'
  if (typeof value === 'string') return 'a str'
  if (typeof value === 'function') return 'a function'
  if (value instanceof Float) return 'a float'
  if (value instanceof Tuple) return 'a tuple'
  if (Array.isArray(value)) return 'a list'
  return value instanceof Map ? 'a dict' : 'a namespace'
}

/** bool() */
export function truth(value: Value): boolean {
  if (value instanceof Float) return value.value !== 0
  if (Array.isArray(value)) return value.length > 0
  if (value instanceof Map) return value.size > 0
  return Boolean(value)
}

/** The number that a value is in arithmetic; undefined where it is none. */
export function numeric(value: Value): number | undefined {
  if (value instanceof Float) return value.value
  return typeof value === 'number' || typeof value === 'boolean' ? Number(value) : undefined
}

/** == */
export function equal(a: Value, b: Value): boolean {
  if (a === b) return true
  const [x, y] = [numeric(a), numeric(b)]
  if (x !== undefined && y !== undefined) return x === y
  if (Array.isArray(a) && Array.isArray(b)) {
    return (
      a instanceof Tuple === b instanceof Tuple && a.length === b.length && a.every((v, i) => equal(v, b[i]))
    )
  }
  if (a instanceof Map && b instanceof Map) {
    return a.size === b.size && [...a].every(([key, value]) => b.has(key) && equal(value, b.get(key)))
  }
  return false
}

/** Less than 0 where a comes before b. */
export function compare(a: Value, b: Value): number {
  const [x, y] = [numeric(a), numeric(b)]
  if (x !== undefined && y !== undefined) return x - y
  if (typeof a === 'string' && typeof b === 'string') return compareTexts(a, b)
  if (Array.isArray(a) && Array.isArray(b)) {
    for (const [i, value] of a.entries()) {
      if (i >= b.length) return 1
      if (!equal(value, b[i])) return compare(value, b[i])
    }
    return a.length - b.length
  }
  throw new Error(`${kindOf(a)} and ${kindOf(b)} have no order`)
}

/** By code points, as Python does. */
function compareTexts(a: string, b: string): number {
  const [left, right] = [[...a], [...b]]
  const at = left.findIndex((character, i) => character !== right[i])
  if (at < 0 || at >= right.length) return left.length - right.length
  return left[at]!.codePointAt(0)! - right[at]!.codePointAt(0)!
}

/** The items of what can be looped over: characters of a text, keys of a dict. */
export function iterate(value: Value): Value[] {
  if (value === undefined) return []
  if (typeof value === 'string') return [...value]
  if (Array.isArray(value)) return value
  if (value instanceof Map) return [...value.keys()]
  throw new Error(`${kindOf(value)} cannot be looped over`)
}

/** `item in container` */
export function contains(container: Value, item: Value): boolean {
  if (typeof container === 'string') {
    if (typeof item === 'string') return container.includes(item)
    throw new Error(`${kindOf(item)} cannot be in a str`)
  }
  if (container instanceof Map) return container.has(item) || iterate(container).some(key => equal(key, item))
  return iterate(container).some(value => equal(value, item))
}

/** str(): what a template writes of a value. */
export function write(value: Value): string {
  if (typeof value === 'string') return value
  return value === undefined ? '' : repr(value)
}

/** repr() */
export function repr(value: Value): string {
  if (value === undefined) return 'Undefined'
  if (value === null) return 'None'
  if (typeof value === 'boolean') return value ? 'True' : 'False'
  if (typeof value === 'number') return String(value)
  if (value instanceof Float) return writeFloat(value.value)
  if (typeof value === 'string') return quoted(value)
  if (value instanceof Tuple) return `(${value.map(repr).join(', ')}${value.length === 1 ? ',' : ''})`
  if (Array.isArray(value)) return `[${value.map(repr).join(', ')}]`
  if (value instanceof Map) return `{${[...value].map(([k, v]) => `${repr(k)}: ${repr(v)}`).join(', ')}}`
  throw new Error(`${kindOf(value)} cannot be written`)
}

function writeFloat(value: number): string {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? 'nan' : value > 0 ? 'inf' : '-inf'
  const [mantissa = '', exponent] = value.toExponential().split('e')
  const power = Number(exponent)
  // Python writes powers of ten below 1e-4 and from 1e16 on.
  if (value !== 0 && (power < -4 || power >= 16)) {
    return `${mantissa}e${power < 0 ? '-' : '+'}${String(Math.abs(power)).padStart(2, '0')}`
  }
  const text = String(value)
  return /[.e]/.test(text) ? text : `${text}.0`
}

const ESCAPES: Partial<Record<string, string>> = { '\n': '\\n', '\r': '\\r', '\t': '\\t', '\\': '\\\\' }

function quoted(text: string): string {
  const quote = text.includes("'") && !text.includes('"') ? '"' : "'"
  const inside = text.replace(/[\p{Cc}\\]/gu, character => {
    return ESCAPES[character] ?? `\\x${character.charCodeAt(0).toString(16).padStart(2, '0')}`
  })
  return `${quote}${quote === "'" ? inside.replaceAll("'", "\\'") : inside}${quote}`
}

/** How json.dumps of transformers' `tojson` writes. */
export interface JsonStyle {
  indent?: string
  separators?: [item: string, key: string]
  sortKeys?: boolean
  ensureAscii?: boolean
}

/** json.dumps() */
export function toJson(value: Value, style: JsonStyle = {}, depth = 0): string {
  const [itemSeparator, keySeparator] = style.separators ?? [style.indent === undefined ? ', ' : ',', ': ']
  const around = (open: string, parts: string[], close: string) => {
    if (style.indent === undefined || parts.length === 0) return `${open}${parts.join(itemSeparator)}${close}`
    const line = `\n${style.indent.repeat(depth + 1)}`
    return `${open}${line}${parts.join(itemSeparator + line)}\n${style.indent.repeat(depth)}${close}`
  }
  if (value === null || typeof value === 'boolean') return String(value)
  if (typeof value === 'number' || value instanceof Float) return repr(value)
  if (typeof value === 'string') return jsonText(value, style)
  if (Array.isArray(value))
    return around(
      '[',
      value.map(item => toJson(item, style, depth + 1)),
      ']'
    )
  if (value instanceof Map) {
    const keys = style.sortKeys ? [...value.keys()].sort(compare) : [...value.keys()]
    const parts = keys.map(key => {
      const name = jsonText(typeof key === 'string' ? key : toJson(key), style)
      return `${name}${keySeparator}${toJson(value.get(key), style, depth + 1)}`
    })
    return around('{', parts, '}')
  }
  throw new Error(`${kindOf(value)} cannot be written as JSON`)
}

function jsonText(text: string, { ensureAscii }: JsonStyle): string {
  const json = JSON.stringify(text)
  if (!ensureAscii) return json
  return json.replace(/[\x7f-\uffff]/g, c => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`)
}
