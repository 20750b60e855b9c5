import { isDeepStrictEqual } from 'node:util'
import { GrammarError, NothingFitsError } from './errors.ts'
import { otherKey } from './json-keys.ts'
import { jsonString } from './json-string.ts'
import {
  BLANK,
  jsonArray,
  jsonEntry,
  jsonInteger,
  jsonLiteral,
  jsonMap,
  jsonNumber,
  jsonValue
} from './json-text.ts'
import { OF_LISTS, OF_OBJECTS } from './keywords.ts'
import { literalFits } from './literal-fits.ts'
import { type Bounds, integersWithin, numbersWithin } from './number-range.ts'
import { regexBody } from './regex.ts'
import { each, either, type Rules, type RulesMark, repeated } from './rules.ts'
import { type JsonObject, merged } from './schema-merge.ts'

/** Schemas that one may be made of, each counted as often as it is read, and keywords that are merged. */
const MAX_SCHEMAS = 20_000
/** Longer lists and strings than this are not asked for of any model. */
const MAX_COUNT = 4096
const MAX_DEPTH = 200

/** What says nothing of a value. */
const ANNOTATIONS = new Set([
  ...[
    'title',
    'description',
    'default',
    'examples',
    'example',
    '$schema',
    '$id',
    '$comment',
    '$anchor',
    'id'
  ],
  ...['$defs', 'definitions', 'deprecated', 'readOnly', 'writeOnly', 'contentMediaType', 'contentEncoding'],
  ...['discriminator', 'externalDocs', 'xml', 'strict', 'name']
])
/** Keywords of JSON Schema that a grammar cannot hold, each with the values that say nothing. */
const REFUSED: Readonly<Record<string, (value: unknown) => boolean>> = {
  not: () => false,
  if: () => false,
  // biome-ignore lint/suspicious/noThenProperty: a keyword of JSON Schema
  then: () => true,
  else: () => true,
  dependentRequired: isEmpty,
  dependentSchemas: isEmpty,
  dependencies: isEmpty,
  patternProperties: isEmpty,
  propertyNames: value => isEmpty(value) || isDeepStrictEqual(value, { type: 'string' }),
  contains: () => false,
  minContains: () => true,
  maxContains: () => true,
  uniqueItems: value => value === false,
  $dynamicRef: () => false,
  $recursiveRef: () => false,
  unevaluatedItems: value => value === false || value === true
}
const KNOWN = new Set<string>([
  ...['type', 'enum', 'const', 'nullable', 'anyOf', 'oneOf', 'allOf', '$ref', 'format', 'pattern'],
  ...['minLength', 'maxLength', 'minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf'],
  ...OF_OBJECTS,
  ...OF_LISTS
])
const TYPES = ['object', 'array', 'string', 'number', 'integer', 'boolean', 'null'] as const
type Type = (typeof TYPES)[number]
/** Keywords that only make sense of one type: a schema that names none means it. */
const OF_TYPE: [Type, readonly string[]][] = [
  ['object', ['properties', 'required', 'additionalProperties', 'minProperties', 'maxProperties']],
  ['array', ['items', 'prefixItems', 'minItems', 'maxItems']],
  ['string', ['minLength', 'maxLength', 'pattern', 'format']],
  ['number', ['minimum', 'maximum', 'exclusiveMinimum', 'exclusiveMaximum', 'multipleOf']]
]
const DAY = '(0[1-9]|1[0-9]|2[0-8])'
const DATE = `[0-9]{4}-(0[1-9]|1[0-2])-${DAY}`
const TIME = '([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-]([01][0-9]|2[0-3]):[0-5][0-9])'
const BYTE = '(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])'
/** Formats that are kept to; others say nothing, as JSON Schema has it. */
const FORMATS: Readonly<Record<string, string>> = {
  date: DATE,
  time: TIME,
  'date-time': `${DATE}T${TIME}`,
  uuid: '[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}',
  ipv4: `${BYTE}\\.${BYTE}\\.${BYTE}\\.${BYTE}`,
  email: '[a-z0-9]{1,32}([._+-][a-z0-9]{1,32}){0,3}@[a-z0-9]{1,32}(\\.[a-z0-9]{1,32}){0,3}\\.[a-z]{2,8}'
}

/**
 * A JSON schema as rules: what they allow is JSON that the schema takes, with properties in the order in which it names
 * them. Not all of that: of an object that names properties no others are written unless `additionalProperties` says what
 * they are, `oneOf` is taken as `anyOf`, and white space is one blank at most.
 *
 * @returns the body of the rule for a whole value
 * @throws {GrammarError} naming the keyword that cannot be kept to, and where it is
 */
export function schemaBody(schema: unknown, rules: Rules): string {
  return new SchemaReader(schema, rules).read(schema, '#', new Set())
}

/** The same of a schema whose values are to be objects, whatever it says of them. */
export function objectBody(schema: unknown, rules: Rules): string {
  const { allOf = [], nullable: _, $ref, ...rest } = isObject(schema) ? schema : {}
  // What is referred to may be nullable, too, and is merged with the others as one of them.
  const all = [...(Array.isArray(allOf) ? allOf : [allOf]), ...($ref === undefined ? [] : [{ $ref }])]
  return schemaBody({ ...rest, allOf: [...all, { type: 'object' }] }, rules)
}

class SchemaReader {
  readonly #top: unknown
  readonly #rules: Rules
  readonly #named = new Map<string, string>()
  #schemas = 0
  #depth = 0

  constructor(top: unknown, rules: Rules) {
    this.#top = top
    this.#rules = rules
  }

  /** @param open references that are being followed with nothing written since */
  read(schema: unknown, path: string, open: ReadonlySet<string>): string {
    this.#count(1)
    if (schema === true) return jsonValue(this.#rules)
    if (schema === false) throw new GrammarError(`${path}: nothing is allowed here`)
    if (!isObject(schema)) throw new GrammarError(`${path}: a schema is an object or a truth value`)
    this.#check(schema, path)
    if (this.#depth > MAX_DEPTH) throw new GrammarError(`${path}: the schema is too deep`)
    this.#depth++
    try {
      return this.#body(schema, path, open)
    } finally {
      this.#depth--
    }
  }

  #count(schemas: number): void {
    this.#schemas += schemas
    if (this.#schemas > MAX_SCHEMAS) throw new GrammarError(`the schema has more than ${MAX_SCHEMAS} parts`)
  }

  #check(schema: JsonObject, path: string): void {
    for (const [name, value] of Object.entries(schema)) {
      if (Object.hasOwn(REFUSED, name) && !REFUSED[name]!(value)) {
        throw new GrammarError(`${path}/${name}: this keyword is not supported`)
      }
    }
  }

  #body(schema: JsonObject, path: string, open: ReadonlySet<string>): string {
    if (schema.nullable === true) {
      const { nullable: _, ...rest } = schema
      return either([this.read(rest, path, open), '"null"'])
    }
    if (typeof schema.$ref === 'string') {
      const { $ref, ...beside } = schema
      if (!saysSomething(beside)) return this.#reference($ref, path, open)
      return this.read(this.#merge([this.#at($ref, path), beside], path), path, refused(open, $ref, path))
    }
    if (Array.isArray(schema.allOf)) {
      const { allOf, ...beside } = schema
      return this.read(this.#merge([beside, ...allOf], path), path, open)
    }
    for (const name of ['anyOf', 'oneOf'] as const) {
      const options = schema[name]
      if (options === undefined) continue
      if (!Array.isArray(options) || options.length === 0)
        throw new GrammarError(`${path}/${name}: give a list`)
      const { [name]: _, ...beside } = schema
      return either(this.#options(options, beside, { path, name, open }))
    }
    if (schema.const !== undefined) return this.#const(schema, path)
    if (schema.enum !== undefined) return this.#enum(schema, path)
    return either(this.#typesOf(schema, path).map(type => this.#typed(type, schema, path)))
  }

  /** Each when it is asked for: together they may be larger than all the memory. */
  *#options(
    options: readonly unknown[],
    beside: JsonObject,
    { path, name, open }: { path: string; name: string; open: ReadonlySet<string> }
  ): Generator<string> {
    let nothing: NothingFitsError | undefined
    let isAny = false
    for (const [i, option] of options.entries()) {
      const { mark } = this.#rules
      let body: string
      try {
        const whole = saysSomething(beside) ? this.#merge([beside, option], path) : option
        body = this.read(whole, `${path}/${name}/${i}`, open)
      } catch (error) {
        if (!(error instanceof NothingFitsError)) throw error
        nothing = error
        this.#forget(mark)
        continue
      }
      isAny = true
      yield body
    }
    if (!isAny && nothing !== undefined) throw nothing
  }

  /** Takes back what was written of an option that nothing fits: a reference in it may have a rule that is not whole. */
  #forget(mark: RulesMark): void {
    this.#rules.backTo(mark)
    for (const [$ref, name] of this.#named) if (!this.#rules.has(name)) this.#named.delete($ref)
  }

  #const(schema: JsonObject, path: string): string {
    const { const: value, type, enum: values } = schema
    if (!isOfType(value, type)) throw new NothingFitsError(`${path}/const: the value is not of the type`)
    if (Array.isArray(values) && !values.some(one => isDeepStrictEqual(one, value))) {
      throw new NothingFitsError(`${path}/const: the value is none of the enum's`)
    }
    if (!literalFits(value, schema, { bounds: boundsOf(schema, path), path })) {
      throw new NothingFitsError(`${path}/const: the value is not what else is said of it`)
    }
    return jsonLiteral(value)
  }

  #enum(schema: JsonObject, path: string): string {
    const { enum: values, type } = schema
    if (!Array.isArray(values) || values.length === 0)
      throw new GrammarError(`${path}/enum: give a list of values`)
    const typed = values.filter(value => isOfType(value, type))
    if (typed.length === 0) throw new NothingFitsError(`${path}/enum: no value is of the type`)
    const bounds = boundsOf(schema, path)
    const fitting = typed.filter(value => literalFits(value, schema, { bounds, path }))
    if (fitting.length === 0) throw new NothingFitsError(`${path}/enum: no value is what else is said of it`)
    return either(each(fitting, jsonLiteral))
  }

  #typesOf(schema: JsonObject, path: string): Type[] {
    if (schema.type === undefined) {
      const meant = OF_TYPE.filter(([, names]) => names.some(name => schema[name] !== undefined))
      return meant.length > 0
        ? meant.map(([type]) => type)
        : ['object', 'array', 'string', 'number', 'boolean', 'null']
    }
    const types = [...new Set([schema.type].flat())]
    const strange = types.find(type => !TYPES.includes(type as Type))
    if (strange !== undefined || types.length === 0) {
      throw new GrammarError(
        `${path}/type: ${JSON.stringify(strange ?? [])?.slice(0, 60)} is none of ${TYPES.join(', ')}`
      )
    }
    return types as Type[]
  }

  #typed(type: Type, schema: JsonObject, path: string): string {
    switch (type) {
      case 'object':
        return this.#object(schema, path)
      case 'array':
        return this.#array(schema, path)
      case 'string':
        return this.#string(schema, path)
      case 'boolean':
        return '("true" | "false")'
      case 'null':
        return '"null"'
      default:
        return this.#number(type, schema, path)
    }
  }

  #object(schema: JsonObject, path: string): string {
    const { required = [], minProperties = 0, maxProperties } = schema
    const properties = schema.properties ?? {}
    const additional = schema.additionalProperties ?? schema.unevaluatedProperties
    if (!isObject(properties)) throw new GrammarError(`${path}/properties: give an object`)
    if (!Array.isArray(required) || required.some(name => typeof name !== 'string')) {
      throw new GrammarError(`${path}/required: give a list of names`)
    }
    const least = count(minProperties, `${path}/minProperties`)
    const most = maxProperties === undefined ? undefined : count(maxProperties, `${path}/maxProperties`)
    const needed = new Set(required as string[])
    const names = [...new Set([...Object.keys(properties), ...needed])]
    if (least > needed.size)
      throw new GrammarError(`${path}/minProperties: more than the required ones cannot be asked for`)
    if (names.length === 0 && additional !== false) {
      const value = this.#inner(additional ?? true, `${path}/additionalProperties`)
      return jsonMap(jsonString(this.#rules), value, most)
    }
    if (most !== undefined && most < names.length) {
      throw new GrammarError(`${path}/maxProperties: fewer than the named ones cannot be asked for`)
    }
    const entries = names.map(name => {
      const own: unknown = Object.hasOwn(properties, name) ? properties[name] : (additional ?? true)
      const value = this.#inner(own, `${path}/properties/${name}`)
      return { entry: jsonEntry(jsonLiteral(name), value), isNeeded: needed.has(name) }
    })
    const isOpen = additional !== undefined && additional !== false && most === undefined
    const others = isOpen
      ? jsonEntry(otherKey(this.#rules, names), this.#inner(additional, `${path}/additionalProperties`))
      : undefined
    return `"{" ${BLANK} ${this.#entries(entries, others)} "}"`
  }

  /** Entries in their order, with commas between those that are there, up to the closing brace. */
  #entries(entries: readonly { entry: string; isNeeded: boolean }[], others: string | undefined): string {
    // From the last to the first: what may follow one is the same whether something came before it or not.
    const comma = `"," ${BLANK} `
    let first = others === undefined ? '""' : `(${others} ${BLANK} (${comma}${others} ${BLANK})*)?`
    let next = others === undefined ? '""' : `(${comma}${others} ${BLANK})*`
    for (const { entry, isNeeded } of [...entries].reverse()) {
      const behind = this.#rules.add('rest', next)
      const here = this.#rules.add('entry', `${entry} ${BLANK} ${behind}`)
      first = isNeeded ? here : either([here, this.#rules.add('first', first)])
      next = isNeeded ? `${comma}${here}` : either([`${comma}${here}`, behind])
    }
    return first
  }

  #array(schema: JsonObject, path: string): string {
    const least = count(schema.minItems ?? 0, `${path}/minItems`)
    const most = schema.maxItems === undefined ? undefined : count(schema.maxItems, `${path}/maxItems`)
    if (most !== undefined && most < least) throw new GrammarError(`${path}/maxItems: it is below minItems`)
    const isList = Array.isArray(schema.items)
    const first = (isList ? schema.items : (schema.prefixItems ?? [])) as unknown[]
    if (!Array.isArray(first)) throw new GrammarError(`${path}/prefixItems: give a list of schemas`)
    const rest = isList ? schema.additionalItems : schema.items
    const item = () => (rest === false ? undefined : this.#inner(rest ?? true, `${path}/items`))
    if (first.length === 0) {
      const one = most === 0 ? undefined : item()
      if (one === undefined && least > 0) throw new GrammarError(`${path}/items: nothing is allowed here`)
      return jsonArray(one ?? '""', least, one === undefined ? 0 : most)
    }
    return this.#tuple(first, { least, most: most ?? first.length }, item, path)
  }

  #tuple(
    first: readonly unknown[],
    { least, most }: { least: number; most: number },
    item: () => string | undefined,
    path: string
  ): string {
    // All of the first ones are written, unless fewer are allowed.
    const shown = first.slice(0, most).map((one, i) => this.#inner(one, `${path}/prefixItems/${i}`))
    const comma = ` ${BLANK} "," ${BLANK} `
    const more = most > shown.length || least > shown.length ? item() : undefined
    if (least > shown.length && more === undefined)
      throw new GrammarError(`${path}/items: nothing is allowed here`)
    const rest =
      more &&
      repeated(`${comma}${more}`, Math.max(0, least - shown.length), Math.max(most, least) - shown.length)
    return `"[" ${BLANK} ${shown.join(comma)} ${rest ?? ''} ${BLANK} "]"`
  }

  #string(schema: JsonObject, path: string): string {
    const { pattern, format, minLength = 0, maxLength } = schema
    const least = count(minLength, `${path}/minLength`)
    const most = maxLength === undefined ? undefined : count(maxLength, `${path}/maxLength`)
    const isBounded = least > 0 || most !== undefined
    if (most !== undefined && most < least) throw new GrammarError(`${path}/maxLength: it is below minLength`)
    if (typeof pattern === 'string') {
      if (isBounded) throw new GrammarError(`${path}/pattern: a pattern and a length cannot both be kept to`)
      return `"\\"" ${this.#rules.add('text', regexBody(pattern, { written: 'json', whole: false }))} "\\""`
    }
    const known = typeof format === 'string' && Object.hasOwn(FORMATS, format) ? FORMATS[format] : undefined
    if (known !== undefined && !isBounded) {
      const body = () => regexBody(known, { written: 'json', whole: true })
      return `"\\"" ${this.#rules.shared(`format-${String(format)}`, body)} "\\""`
    }
    return jsonString(this.#rules, least, most)
  }

  #number(type: 'number' | 'integer', schema: JsonObject, path: string): string {
    const bounds = boundsOf(schema, path)
    if (schema.multipleOf !== undefined && schema.multipleOf !== 1) {
      throw new GrammarError(`${path}/multipleOf: only whole numbers (1) are supported`)
    }
    const isWhole = type === 'integer' || schema.multipleOf === 1
    if (bounds.min === undefined && bounds.max === undefined) {
      return isWhole ? jsonInteger(this.#rules) : jsonNumber(this.#rules)
    }
    const body = isWhole ? integersWithin(bounds) : numbersWithin(bounds)
    if (body === undefined)
      throw new GrammarError(`${path}: no number that can be written is within the bounds`)
    return this.#rules.add('bounded', body)
  }

  /** Something within a list or an object, as a rule of its own. */
  #inner(schema: unknown, path: string): string {
    const body = this.read(schema, path, new Set())
    return /^[\w-]+$/.test(body) ? body : this.#rules.add('part', body)
  }

  #reference($ref: string, path: string, open: ReadonlySet<string>): string {
    const following = refused(open, $ref, path)
    const known = this.#named.get($ref)
    if (known !== undefined) return known
    const name = this.#rules.reserve('ref')
    this.#named.set($ref, name)
    this.#rules.set(name, this.read(this.#at($ref, path), $ref, following))
    return name
  }

  /** What a pointer within the schema is to. */
  #at($ref: string, path: string): unknown {
    if (!$ref.startsWith('#'))
      throw new GrammarError(`${path}/$ref: only what is within the schema can be referred to`)
    let found: unknown = this.#top
    for (const part of $ref.slice(1).split('/').slice(1)) {
      const name = decoded(part).replaceAll('~1', '/').replaceAll('~0', '~')
      const isThere = (isObject(found) || Array.isArray(found)) && Object.hasOwn(found, name)
      if (!isThere) throw new GrammarError(`${path}/$ref: ${$ref.slice(0, 100)} is not in the schema`)
      found = (found as JsonObject)[name]
    }
    return found
  }

  /** Several schemas that all hold, as one. */
  #merge(schemas: readonly unknown[], path: string): unknown {
    const followed = schemas.map(schema => {
      let one = schema
      for (let i = 0; isObject(one) && typeof one.$ref === 'string' && i < MAX_DEPTH; i++) {
        const { $ref, ...beside } = one
        if (saysSomething(beside)) break
        one = this.#at($ref, path)
      }
      // What it costs to merge it.
      this.#count(isObject(one) ? 1 + Object.keys(one).length : 1)
      return one
    })
    return merged(followed, path)
  }
}

/** The references that are open with one more. @throws {GrammarError} where it is open already */
function refused(open: ReadonlySet<string>, $ref: string, path: string): ReadonlySet<string> {
  if (open.has($ref)) throw new GrammarError(`${path}/$ref: ${$ref.slice(0, 100)} means itself`)
  return new Set([...open, $ref])
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part)
  } catch {
    // A name that is no encoding is what it is; whether it is there is seen next.
    return part
  }
}

function boundsOf(schema: JsonObject, path: string): Bounds {
  const bound = (name: string): number | undefined => {
    const value = schema[name]
    if (value === undefined || typeof value === 'boolean') return undefined
    if (typeof value === 'number' && Math.abs(value) < 1e15) return value
    throw new GrammarError(`${path}/${name}: give a number below 10^15`)
  }
  const [min, max] = [bound('minimum'), bound('maximum')]
  // In draft 4 it is a word about the other one.
  const above = schema.exclusiveMinimum === true ? min : bound('exclusiveMinimum')
  const below = schema.exclusiveMaximum === true ? max : bound('exclusiveMaximum')
  const isAbove = above !== undefined && (min === undefined || above >= min)
  const isBelow = below !== undefined && (max === undefined || below <= max)
  return {
    min: isAbove ? above : min,
    max: isBelow ? below : max,
    ...(isAbove && { aboveMin: true }),
    ...(isBelow && { belowMax: true })
  }
}

/** Whether a value is of a type that a schema names, or it names none. */
function isOfType(value: unknown, type: unknown): boolean {
  const types = new Set<unknown>([type ?? []].flat())
  return types.size === 0 || typesOfValue(value).some(one => types.has(one))
}

function typesOfValue(value: unknown): Type[] {
  if (value === null) return ['null']
  if (Array.isArray(value)) return ['array']
  if (typeof value === 'number') return Number.isInteger(value) ? ['integer', 'number'] : ['number']
  return [typeof value as Type]
}

/** How many; what is more than anybody asks for is made less. */
function count(value: unknown, path: string): number {
  if (typeof value === 'number' && Number.isInteger(value) && value >= 0) {
    if (value <= MAX_COUNT || path.includes('/max')) return Math.min(value, MAX_COUNT)
    throw new GrammarError(`${path}: ${value} is more than ${MAX_COUNT}`)
  }
  throw new GrammarError(`${path}: give a whole number that is not negative`)
}

function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value)
}

function isEmpty(value: unknown): boolean {
  return isObject(value) && Object.keys(value).length === 0
}

/** Whether anything in it is about values: what nobody knows is not. */
function saysSomething(schema: JsonObject): boolean {
  return Object.keys(schema).some(
    name => !ANNOTATIONS.has(name) && (KNOWN.has(name) || Object.hasOwn(REFUSED, name))
  )
}
