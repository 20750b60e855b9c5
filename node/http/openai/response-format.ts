import * as z from 'zod'
import type { Constraint } from '../../api.ts'
import { jsonObject } from '../fields.ts'
import { ANY_OBJECT, schemaOfAnswer } from '../forms.ts'

const name = z.string().max(256).nullish()
const description = z.string().nullish()
const strict = z.boolean().nullish()

/** `response_format` of chat, and of completions where it is given there; llama.cpp has a `schema` beside `json_object`. */
export const responseFormat = z.discriminatedUnion(
  'type',
  [
    z.object({ type: z.literal('text') }),
    z.object({ type: z.literal('json_object'), schema: schemaOfAnswer.nullish() }),
    z.object({
      type: z.literal('json_schema'),
      json_schema: z.object({ name, description, strict, schema: jsonObject.nullish() })
    })
  ],
  'give "text", "json_object" or "json_schema"'
)

/** `text.format` of responses, where a schema's parts stand beside its type. */
export const textFormat = z.discriminatedUnion(
  'type',
  [
    z.object({ type: z.literal('text') }),
    z.object({ type: z.literal('json_object') }),
    z.object({ type: z.literal('json_schema'), name, description, strict, schema: jsonObject })
  ],
  'give "text", "json_object" or "json_schema"'
)

/** What an answer of that format has to look like; undefined: anything. */
export function constraintOf(
  format: z.infer<typeof responseFormat> | z.infer<typeof textFormat> | null | undefined
): Constraint | undefined {
  if (format === undefined || format === null || format.type === 'text') return undefined
  const schema =
    'json_schema' in format ? format.json_schema.schema : 'schema' in format ? format.schema : undefined
  return schema === undefined || schema === null ? ANY_OBJECT : { kind: 'schema', schema }
}
