import { z } from 'zod'
import { MAX_CRITICAL_FIELDS, MAX_FIELD_NAME_CHARS } from './constants.ts'
import { InvalidMessageError, NotUnderstoodError } from './errors.ts'
import { plainText } from './text.ts'

const critical = z.array(z.string().min(1).max(MAX_FIELD_NAME_CHARS)).max(MAX_CRITICAL_FIELDS)

/** What every message may have besides its own fields. */
export interface Extensible {
  /** Names of the message's fields that a reader must understand, or refuse the message; it passes over all others. */
  critical?: string[]
}

/**
 * A value as a message of a schema. Fields that the schema does not know drop out, unless the message's `critical` names
 * one of them.
 *
 * @throws {InvalidMessageError} where it is none, {NotUnderstoodError} naming the field that must be understood and is not
 */
export function parseMessage<S extends z.ZodType>(schema: S, value: unknown): z.output<S> {
  refuseCritical(schema, value)
  const result = schema.safeParse(value)
  if (result.success) return result.data
  const issue = result.error.issues[0]
  // The path may go through keys that the peer has chosen.
  throw new InvalidMessageError(
    `a message is malformed: ${plainText(`${issue?.path.join('.') ?? ''} ${issue?.message ?? ''}`)}`
  )
}

/** Before the schema looks at it: the field may be why the others are not as it expects. */
function refuseCritical(schema: z.ZodType, value: unknown): void {
  if (typeof value !== 'object' || value === null || !Object.hasOwn(value, 'critical')) return
  const names = critical.safeParse((value as { critical: unknown }).critical)
  if (!names.success) {
    throw new InvalidMessageError(
      `a message is malformed: critical must be at most ${MAX_CRITICAL_FIELDS} names of fields`
    )
  }
  const known = fieldsOf(schema, value)
  const unknown = names.data.find(name => !known.has(name))
  if (unknown !== undefined) throw new NotUnderstoodError(plainText(unknown, MAX_FIELD_NAME_CHARS))
}

/** The fields that a schema has for a value: its own, or those of the alternative that the value is. */
function fieldsOf(schema: z.ZodType, value: object): ReadonlySet<string> {
  if (schema instanceof z.ZodObject) return new Set(Object.keys(schema.shape))
  if (schema instanceof z.ZodDiscriminatedUnion) {
    const { type } = value as { type?: unknown }
    for (const option of schema.options) {
      if (option instanceof z.ZodObject && option.shape.type?.safeParse(type).success)
        return fieldsOf(option, value)
    }
  }
  return new Set()
}
