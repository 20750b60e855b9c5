import { Ajv2020 } from 'ajv/dist/2020.js'
import { afterAll, describe, expect, test } from 'vitest'
import { type Constraint, grammarOf } from '../../../models/grammar/constraint.ts'
import { Grammars } from '../../../models/grammar/grammars.ts'
import { deadlineMs } from '../../fixtures/machine.ts'
import { randomSchema } from '../../fixtures/random-schema.ts'
import { nonsense, nonsenseOf, takes, VOCABULARY } from '../../fixtures/walk-grammar.ts'
import { Random } from '../../protocols/mutate.ts'

const SCHEMAS = Number(process.env.EDGESHARD_SCHEMAS ?? 40)
const deadlines = { startMs: deadlineMs(30_000), compileMs: deadlineMs(5000), maskMs: deadlineMs(5000) }
const grammars = new Grammars({ deadlines })
const { signal } = new AbortController()
afterAll(() => grammars.close())

const TO_X = { $ref: '#/$defs/x' }
const schemaOf = (schema: unknown): Constraint => ({ kind: 'schema', schema })

test(`what is written of ${SCHEMAS} random schemas parses, and the schema takes it`, {
  timeout: 0
}, async () => {
  const ajv = new Ajv2020({ strict: false, validateFormats: false })
  let ended = 0
  for (let seed = 0; seed < SCHEMAS; seed++) {
    const random = new Random(seed)
    const schema = randomSchema(random)
    const text = await nonsenseOf(grammars, schemaOf(schema), random)
    if (text === undefined) continue
    ended++
    const value = parsed(text, schema)
    expect(
      ajv.validate(schema, value),
      `${seed}: ${JSON.stringify(schema)}: ${text}: ${ajv.errorsText()}`
    ).toBe(true)
  }
  // White space, digits and lists cannot go on for ever.
  expect(ended).toBeGreaterThan(SCHEMAS * 0.9)
})

describe('forms', () => {
  const house = {
    type: 'object',
    properties: { a: { type: 'integer', minimum: 3 }, b: { type: 'string' } },
    required: ['a']
  }

  test.each<[string, Constraint, string[], string[]]>([
    [
      'a schema',
      schemaOf(house),
      ['{"a":3}', '{ "a" : 12 , "b" : "x\\n\\u00e9é" }'],
      ['{"a":2}', '{"b":"x"}', '{"a":3,}', '{"a":  3}', '{"a":3,"b":"\t"}']
    ],
    [
      'any object',
      schemaOf({ type: 'object' }),
      ['{}', '{"a":[1,{"b":null}], "c":-1.5e3}'],
      ['[]', '{a:1}', '1']
    ],
    [
      'other keys',
      schemaOf({ properties: { ab: { type: 'null' } }, additionalProperties: { type: 'integer' } }),
      ['{}', '{"ab":null,"a":1,"abc":2}'],
      ['{"ab":1}', '{"a":null}']
    ],
    [
      'numbers within bounds',
      schemaOf({ type: 'number', exclusiveMinimum: 0, maximum: 1 }),
      ['0.5', '1', '0.001'],
      ['0', '0.0', '1.5', '-1']
    ],
    [
      'a tuple',
      schemaOf({ prefixItems: [{ type: 'integer' }, { const: 'x' }], items: { type: 'null' }, maxItems: 3 }),
      ['[1,"x"]', '[1, "x", null]'],
      ['[1]', '[1,"x",null,null]']
    ],
    [
      'what contains itself',
      schemaOf({
        $ref: '#/$defs/n',
        $defs: {
          n: { type: 'object', properties: { n: { $ref: '#/$defs/n' } }, additionalProperties: false }
        }
      }),
      ['{}', '{"n":{"n":{}}}'],
      ['{"n":1}']
    ],
    [
      'a pattern',
      { kind: 'regex', pattern: '^(a|b\\d{2,3})[^x-z\\n]?$' },
      ['a', 'b12', 'b123é'],
      ['b1', 'ax', 'a\n', 'aaa']
    ],
    [
      'a pattern in JSON',
      schemaOf({ type: 'string', pattern: '^"[\\\\/]$' }),
      ['"\\"\\\\"', '"\\"/"'],
      ['""/"', '"\\"\\n"']
    ],
    [
      'a choice',
      { kind: 'choice', choices: ['yes', 'no "way"', 'né'] },
      ['yes', 'no "way"', 'né'],
      ['ye', 'no']
    ],
    ['a grammar', { kind: 'grammar', text: 'root ::= "a" x{2}\nx ::= [0-9] | "-"' }, ['a1-'], ['a1', 'a111']],
    [
      'a call',
      { kind: 'calls', tools: [{ name: 'f', parameters: house }, { name: 'g' }], parallel: false },
      ['{"name": "f", "arguments": {"a": 4}}', '{"name":"g","arguments":{}}'],
      ['{"name":"h","arguments":{}}', '[{"name":"g","arguments":{}}]', '{"name":"f","arguments":{}}']
    ],
    [
      'a call whose arguments nobody says to be an object',
      {
        kind: 'calls',
        tools: [
          { name: 'f', parameters: {} },
          { name: 'g', parameters: { type: ['object', 'null'] } },
          {
            name: 'h',
            parameters: { anyOf: [{ type: 'string' }, { const: 1 }, { properties: { a: { const: 1 } } }] }
          },
          { name: 'i', parameters: { $ref: '#/$defs/x', $defs: { x: { allOf: [{ nullable: true }] } } } }
        ],
        parallel: false
      },
      [...'fgi']
        .map(name => `{"name":"${name}","arguments":{"a":1}}`)
        .concat('{"name":"h","arguments":{"a":1}}'),
      [...'fghi'].flatMap(name =>
        ['null', '[]', '"x"', '1'].map(given => `{"name":"${name}","arguments":${given}}`)
      )
    ],
    [
      'a part that nothing fits, beside one that something does',
      schemaOf({ type: 'string', anyOf: [{ const: 5 }, { type: 'integer' }, { enum: [6] }, { const: 'x' }] }),
      ['"x"'],
      ['5', '6', '1']
    ],
    [
      'of values that are written out those that keep to the rest',
      schemaOf({
        prefixItems: [
          { enum: ['a', 'abc', 'b', 'bcd', 'b😀', 7], minLength: 2, maxLength: 3, pattern: '^b' },
          { enum: [1, 2, 3, 4, 5, 6.5, 8], exclusiveMinimum: 1, maximum: 7, multipleOf: 2 },
          { const: 'xyz', pattern: 'y' }
        ],
        minItems: 3,
        maxItems: 3
      }),
      ['["bcd",2,"xyz"]', '["b😀",4,"xyz"]', '[7,4,"xyz"]'],
      [
        '["a",2,"xyz"]',
        '["abc",2,"xyz"]',
        '["b",2,"xyz"]',
        '["bcd",1,"xyz"]',
        '["bcd",6.5,"xyz"]',
        '["bcd",8,"xyz"]'
      ]
    ],
    [
      'calls',
      { kind: 'calls', tools: [{ name: 'g' }], parallel: true },
      ['[{"name":"g","arguments":{}},{"name":"g","arguments":{"x":1}}]'],
      ['[]']
    ]
  ])('%s', async (_, constraint, good, bad) => {
    for (const text of good) expect(await takes(grammars, constraint, text), text).toBe(true)
    for (const text of bad) expect(await takes(grammars, constraint, text), text).toBe(false)
  })

  test.each([
    [0, 0],
    [0, 5],
    [1, undefined],
    [3, 40],
    [31, 32],
    [32, 33],
    [40, undefined],
    [33, 70],
    [64, 64],
    [65, 96]
  ])('a string has %i to %s characters, plain or escaped', async (minLength, maxLength) => {
    const schema = schemaOf({ type: 'string', minLength, ...(maxLength !== undefined && { maxLength }) })
    const most = maxLength ?? minLength + 70
    const lengths = [
      0,
      minLength - 1,
      minLength,
      minLength + 1,
      31,
      32,
      33,
      63,
      64,
      65,
      most - 1,
      most,
      most + 1
    ]
    for (const length of new Set(lengths.filter(length => length >= 0))) {
      const fits = length >= minLength && length <= (maxLength ?? length)
      for (const text of ['x'.repeat(length), `\n"é\\`.repeat(length).slice(0, length)]) {
        expect(await takes(grammars, schema, JSON.stringify(text)), `${length}: ${text}`).toBe(fits)
      }
    }
  })

  test.each<[string, Constraint]>([
    ['#/not', schemaOf({ not: {} })],
    ['#/properties/a/uniqueItems', schemaOf({ properties: { a: { type: 'array', uniqueItems: true } } })],
    ['#/type', schemaOf({ type: 'text' })],
    ['is not in the schema', schemaOf({ $ref: '#/$defs/x' })],
    ['only what is within', schemaOf({ $ref: 'https://example.com/x.json' })],
    ['means itself', schemaOf({ $ref: '#' })],
    ['is within the bounds', schemaOf({ type: 'integer', minimum: 0.2, maximum: 0.8 })],
    ['it looks around', { kind: 'regex', pattern: 'a(?=b)' }],
    ['not of the type', schemaOf({ type: 'string', const: 5 })],
    ['no type in common', schemaOf({ type: 'string', anyOf: [{ type: 'integer' }, { type: 'null' }] })],
    ['not closed', { kind: 'regex', pattern: '(a' }],
    ['"\\1" is not supported', { kind: 'regex', pattern: '(a)\\1' }],
    ['0 choices', { kind: 'choice', choices: [] }],
    ['Unterminated character class', { kind: 'grammar', text: 'root ::= [a' }],
    ['root rule', { kind: 'grammar', text: 'x ::= "a"' }],
    ['what else is said of it', schemaOf({ const: 'abc', maxLength: 2 })],
    ['#/enum: no value is what else', schemaOf({ enum: ['abc', 'def'], pattern: 'g' })],
    ['#/items', schemaOf({ enum: [[1], 2], items: { type: 'string' } })],
    ['#/pattern', schemaOf({ enum: ['a'], pattern: '(' })],
    ['#/enum: give a list', schemaOf({ allOf: [{ enum: 'x' }, { enum: ['x'] }] })],
    ['#/properties: give an object', schemaOf({ allOf: [{ properties: 1 }, { properties: null }] })],
    ['#/type', schemaOf({ allOf: [{ type: null }, { type: [{}] }] })],
    ['too deep', schemaOf({ properties: { ['a'.repeat(20_000)]: {} }, additionalProperties: {} })],
    ['cannot be read', schemaOf(ring())]
  ])('refused, naming what is wrong: %s', async (message, constraint) => {
    const error = await grammars.open(constraint, VOCABULARY, { signal }).catch((error: unknown) => error)
    expect(error).toMatchObject({ code: 'grammar_unusable', message: expect.stringContaining(message) })
  })

  test('lists of values that both have to hold are what both have, whichever order keys are in', async () => {
    const constraint = schemaOf({
      allOf: [{ enum: [1, { a: 1, b: [2] }] }, { enum: [{ b: [2], a: 1 }, '1'] }]
    })
    expect(await takes(grammars, constraint, '{"a":1,"b":[2]}')).toBe(true)
    expect(await takes(grammars, constraint, '1')).toBe(false)
  })

  test.each<[string, unknown]>([
    ['merged lists of values that are none', { allOf: [{ enum: 'x' }, { enum: ['x'] }] }],
    [
      'a name without end',
      { properties: { ['a'.repeat(20_000)]: {} }, additionalProperties: { type: 'null' } }
    ],
    ['nothing', null]
  ])('a tool with strange arguments takes any: %s', async (_, parameters) => {
    const constraint: Constraint = { kind: 'calls', tools: [{ name: 'f', parameters }], parallel: false }
    expect(await takes(grammars, constraint, '{"name":"f","arguments":{"a":[1]}}')).toBe(true)
  })

  test('a reference that nothing fits, of which others remain, leaves no rule behind', async () => {
    const none = { type: 'string', enum: [1] }
    const ring = { properties: { next: { $ref: '#/$defs/ring' }, not: { $ref: '#/$defs/none' } } }
    const integer = { type: 'integer' }
    const constraint = schemaOf({
      $defs: { none, ring },
      type: 'array',
      prefixItems: [
        { anyOf: [{ $ref: '#/$defs/none' }, integer] },
        { anyOf: [{ $ref: '#/$defs/ring' }, integer] }
      ],
      maxItems: 2
    })
    expect(await takes(grammars, constraint, '[1,2]')).toBe(true)
    expect(await takes(grammars, constraint, '[1,]')).toBe(false)
    const twice = schemaOf({
      $defs: { none },
      type: 'array',
      prefixItems: [{ anyOf: [{ $ref: '#/$defs/none' }, integer] }, { $ref: '#/$defs/none' }]
    })
    expect(() => grammarOf(twice)).toThrow('no value is of the type')
  })

  test('a value that is none of the list beside it fits nothing', async () => {
    const kind = { enum: ['a', 'b'] }
    const constraint = schemaOf({
      properties: { kind },
      required: ['kind'],
      anyOf: ['c', 'b'].map(value => ({ properties: { kind: { const: value } } }))
    })
    expect(await takes(grammars, constraint, '{"kind":"b"}')).toBe(true)
    expect(await takes(grammars, constraint, '{"kind":"c"}')).toBe(false)
  })

  test('arguments are an object where their schema refers to one that may be null', async () => {
    const maybe = { type: 'object', nullable: true, properties: { a: { type: 'integer' } } }
    const parameters = { $ref: '#/$defs/maybe', $defs: { maybe } }
    const constraint: Constraint = { kind: 'calls', tools: [{ name: 'f', parameters }], parallel: false }
    expect(await takes(grammars, constraint, '{"name":"f","arguments":{"a":1}}')).toBe(true)
    expect(await takes(grammars, constraint, '{"name":"f","arguments":null}')).toBe(false)
  })

  test('a tool whose schema says more than a grammar can hold takes any arguments', async () => {
    const parameters = { type: 'object', properties: { a: { not: {} } } }
    const constraint: Constraint = { kind: 'calls', tools: [{ name: 'f', parameters }], parallel: false }
    expect(await takes(grammars, constraint, '{"name":"f","arguments":{"a":[1]}}')).toBe(true)
  })
})

test.each<[string, Constraint]>([
  ['a string', schemaOf({ type: 'string' })],
  ['any object', schemaOf({ type: 'object' })],
  [
    'a string of an object',
    schemaOf({ properties: { a: { type: 'string' } }, additionalProperties: { type: 'string' } })
  ],
  ['arguments of a call', { kind: 'calls', tools: [{ name: 'f' }], parallel: true }]
])(
  'of %s the rest is a rule with its end: one for each character had every token looked at in every step',
  (_, constraint) => {
    const rules = grammarOf(constraint).split('\n')
    expect(rules.filter(rule => /^rest ::= "\\"" \| \S+ rest \|/.test(rule))).toHaveLength(1)
    expect(rules.filter(rule => rule.startsWith('char ::='))).toEqual([])
  }
)

describe('bombs', () => {
  const nested = (depth: number): unknown =>
    depth === 0 ? {} : { type: 'object', properties: { a: nested(depth - 1), b: nested(depth - 1) } }
  const doubled = Object.fromEntries(
    Array.from({ length: 40 }, (_, i) => [
      `r${i}`,
      { allOf: [{ $ref: `#/$defs/r${i + 1}` }, { anyOf: [{ $ref: `#/$defs/r${i + 1}` }, { title: 'x' }] }] }
    ])
  )
  test.each<[string, Constraint]>([
    ['a wide tree', schemaOf(nested(14))],
    [
      'references that double',
      schemaOf({ $ref: '#/$defs/r0', $defs: { ...doubled, r40: { type: 'object' } } })
    ],
    [
      'many properties',
      schemaOf({ properties: Object.fromEntries(Array.from({ length: 9000 }, (_, i) => [`p${i}`, {}])) })
    ],
    ['groups within groups', { kind: 'regex', pattern: `${'('.repeat(100)}a${')'.repeat(100)}` }],
    ['a long grammar', { kind: 'grammar', text: `root ::= "${'a'.repeat(200_000)}"` }],
    ['repeats of repeats', { kind: 'regex', pattern: '((((a{1000}){1000}){1000}){1000}){1000}' }],
    [
      'a long text that is referred to often',
      schemaOf({ $defs: { x: { const: 'a'.repeat(1_000_000) } }, anyOf: often({ ...TO_X, type: 'string' }) })
    ],
    [
      'texts that are long together',
      schemaOf({ $defs: { x: { const: 'é'.repeat(10_000) } }, anyOf: often({ ...TO_X, type: 'string' }) })
    ],
    ['lists of values that have none in common', schemaOf({ allOf: [integers(0), integers(16_000)] })],
    ['many keywords that are merged often', schemaOf({ $defs: { x: keywords(1000) }, allOf: often(TO_X) })]
  ])('%s is refused, and answers of other forms go on meanwhile', async (_, bomb) => {
    const other = await grammars.open(schemaOf({ type: 'object' }), VOCABULARY, { signal })
    let refused = false
    const trial = new Grammars({ deadlines: { ...deadlines, compileMs: 1000 } })
    let turns = 0
    setImmediate(() => turns++)
    const opening = trial.open(bomb, VOCABULARY, { signal }).catch((error: unknown) => error)
    let turnsBefore = 0
    void opening.then(() => {
      refused = true
      turnsBefore = turns
    })
    const random = new Random(1)
    do await nonsense(other, random, { most: 20 })
    while (!refused)
    expect(await opening).toMatchObject({ code: 'grammar_unusable' })
    // What waits in this thread had its turn before the refusal.
    expect(turnsBefore).toBe(1)
    other.close()
    trial.close()
  })
})

test('the state follows the tokens, whichever they were before', async () => {
  const grammar = await grammars.open(schemaOf({ enum: ['ab', 'ac', 12] }), VOCABULARY, { signal })
  const after = (text: string) => grammar.maskAfter([...Buffer.from(text)])
  const masks = [await after(''), await after('"a'), await after('"ab')]
  await after('12')
  expect([await after(''), await after('"a'), await after('"ab')]).toEqual(masks)
  await expect(after('x')).rejects.toThrow('where the grammar has none such')
  grammar.close()
})

test('who needs a grammar more than there may be waits for one to be let go, or gives up', async () => {
  const few = new Grammars({ deadlines, threads: 1 })
  const first = await few.open({ kind: 'choice', choices: ['a'] }, VOCABULARY, { signal })
  const same = await few.open({ kind: 'choice', choices: ['a'] }, VOCABULARY, { signal })
  const left = new AbortController()
  const gone = few.open({ kind: 'choice', choices: ['b'] }, VOCABULARY, { signal: left.signal })
  const other = few.open({ kind: 'choice', choices: ['c'] }, VOCABULARY, { signal })
  left.abort(new Error('left'))
  await expect(gone).rejects.toThrow('left')
  first.close()
  same.close()
  const opened = await other
  expect(await opened.maskAfter([])).not.toEqual(undefined)
  opened.close()
  few.close()
})

test('of those who wait for the same grammar all have it at once, and nobody waits for one who has left', async () => {
  const few = new Grammars({ deadlines, threads: 1 })
  const open = (choice: string, left = signal) =>
    few.open({ kind: 'choice', choices: [choice] }, VOCABULARY, { signal: left })
  const first = await open('a')
  const left = new AbortController()
  const gone = open('b', left.signal)
  const both = [open('c'), open('c')]
  first.close()
  // It was told that there is a place, and does not take it.
  left.abort(new Error('left'))
  await expect(gone).rejects.toThrow('left')
  for (const answer of await Promise.all(both)) answer.close()
  few.close()
})

test('who waits for a place longer than it may is told to come again, and is in nobody’s way', async () => {
  const few = new Grammars({ deadlines, threads: 1, waitMs: 1 })
  const first = await few.open({ kind: 'choice', choices: ['a'] }, VOCABULARY, { signal })
  const late = few.open({ kind: 'choice', choices: ['b'] }, VOCABULARY, { signal })
  await expect(late).rejects.toMatchObject({ name: 'GrammarsBusyError', code: 'busy' })
  first.close()
  const next = await few.open({ kind: 'choice', choices: ['b'] }, VOCABULARY, { signal })
  expect(await next.maskAfter([])).not.toEqual(undefined)
  next.close()
  few.close()
})

test('who waits for a form, or asks for one, when all of them end hears why', async () => {
  const few = new Grammars({ deadlines, threads: 1 })
  const first = await few.open({ kind: 'choice', choices: ['a'] }, VOCABULARY, { signal })
  const reason = new Error('the node stops')
  const asking = { kind: 'choice', choices: ['b'] } as const
  const waiting = few.open(asking, VOCABULARY, { signal }).catch((error: unknown) => error)
  await first.maskAfter([])
  few.close(reason)
  expect(await waiting).toBe(reason)
  await expect(few.open(asking, VOCABULARY, { signal })).rejects.toBe(reason)
  await expect(first.maskAfter([])).rejects.toBe(reason)
  const compiling = new Grammars({ deadlines })
  const opening = compiling.open(asking, VOCABULARY, { signal }).catch((error: unknown) => error)
  compiling.close(reason)
  expect(await opening).toBe(reason)
})

/** A schema that is no JSON, for it contains itself. */
function ring(): unknown {
  const schema: Record<string, unknown> = {}
  schema.properties = { a: schema }
  return schema
}

function often(schema: object): object[] {
  return Array.from({ length: 800 }, () => schema)
}

function integers(from: number): object {
  return { enum: Array.from({ length: 16_000 }, (_, i) => from + i) }
}

function keywords(count: number): object {
  return Object.fromEntries(Array.from({ length: count }, (_, i) => [`k${i}`, i]))
}

function parsed(text: string, schema: unknown): unknown {
  try {
    return JSON.parse(text)
  } catch (error) {
    throw new Error(`${text} is no JSON, of ${JSON.stringify(schema)}`, { cause: error })
  }
}
