import * as z from 'zod'
import type { Constraint } from '../api.ts'
import { RequestError } from '../errors.ts'
import { isShallow, MAX_LEVELS } from '../shallow.ts'
import { jsonObject, parse, text } from './fields.ts'
import { fieldOf } from './unknown-fields.ts'

/** What an answer has to look like, under the names of llama.cpp and vLLM, which many clients know. */

export const MAX_CHOICES = 4096

export const schemaOfAnswer = z.union([jsonObject, z.boolean()])
const schemaOrText = z.union([schemaOfAnswer, text.transform(given => jsonOf(given))])
const choices = z.array(text.min(1)).min(1).max(MAX_CHOICES)

/** Any object: what is meant by JSON without a schema. */
export const ANY_OBJECT: Constraint = { kind: 'schema', schema: { type: 'object' } }

const one = {
  schema: schemaOrText.transform((schema): Constraint => ({ kind: 'schema', schema })),
  regex: text.min(1).transform((pattern): Constraint => ({ kind: 'regex', pattern })),
  choice: choices.transform((given): Constraint => ({ kind: 'choice', choices: given })),
  grammar: text.min(1).transform((given): Constraint => ({ kind: 'grammar', text: given })),
  object: z.literal(true).transform((): Constraint => ANY_OBJECT)
}

/** Fields of a body, and what their value is. */
const FIELDS = {
  json_schema: one.schema,
  grammar: one.grammar,
  guided_json: one.schema,
  guided_regex: one.regex,
  guided_choice: one.choice,
  guided_grammar: one.grammar
} as const
/** The same within vLLM's `structured_outputs`. */
const STRUCTURED = {
  json: one.schema,
  json_object: one.object,
  regex: one.regex,
  choice: one.choice,
  grammar: one.grammar
} as const

const HOW: ReadonlySet<string> = new Set(['backend', 'disable_fallback', 'disable_any_whitespace'])

export const FORM_FIELDS: readonly string[] = [...Object.keys(FIELDS), 'structured_outputs']

/**
 * What a body says of an answer's form, in the words of llama.cpp and vLLM; undefined: nothing.
 *
 * @param more what it says in other words
 * @throws {RequestError} naming the field that is wrong, or the second that says something
 */
export function formOf(
  body: unknown,
  more?: { field: string; constraint: Constraint | undefined }
): Constraint | undefined {
  const structured = fieldOf(body, 'structured_outputs')
  refuseOthers(structured)
  const found = [
    ...(more?.constraint === undefined ? [] : [{ field: more.field, constraint: more.constraint }]),
    ...constraintsIn(body, FIELDS),
    ...constraintsIn(structured, STRUCTURED, 'structured_outputs.')
  ]
  const [first, second] = found
  if (second === undefined) return first?.constraint
  const message = `${second.field}: ${first!.field} says already what the answer has to look like`
  throw new RequestError(message, second.field)
}

function constraintsIn(
  body: unknown,
  fields: Readonly<Record<string, z.ZodType<Constraint>>>,
  path = ''
): { field: string; constraint: Constraint }[] {
  return Object.entries(fields).flatMap(([name, schema]) => {
    const value = fieldOf(body, name)
    if (isNothing(value)) return []
    const field = `${path}${name}`
    try {
      return [{ field, constraint: parse(schema, value) }]
    } catch (error) {
      if (!(error instanceof RequestError)) throw error
      throw new RequestError(`${field}: ${error.message}`, field)
    }
  })
}

/** What would change a form and is not done is refused; how vLLM comes to it is its own. */
function refuseOthers(structured: unknown): void {
  if (structured === undefined || structured === null) return
  if (typeof structured !== 'object')
    throw new RequestError('structured_outputs: give an object', 'structured_outputs')
  const other = Object.entries(structured).find(
    ([name, value]) => !Object.hasOwn(STRUCTURED, name) && !HOW.has(name) && !isNothing(value)
  )
  if (other === undefined) return
  const field = `structured_outputs.${other[0]}`.slice(0, 100)
  throw new RequestError(`${field}: this would change the answer and is not supported; leave it out`, field)
}

/** What asks for no form. */
function isNothing(value: unknown): boolean {
  if (value === undefined || value === null || value === '' || value === false) return true
  return Array.isArray(value) && value.length === 0
}

/** A schema that comes as the text of one. */
function jsonOf(given: string): unknown {
  let schema: unknown
  try {
    schema = JSON.parse(given)
  } catch {
    throw new RequestError('the schema is no JSON')
  }
  if (!isShallow(schema)) throw new RequestError(`more than ${MAX_LEVELS} levels deep`)
  return schema
}
