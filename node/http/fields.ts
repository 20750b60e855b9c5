import * as z from 'zod'
import { MAX_STOP_CHARS, MAX_STOP_STRINGS } from '../../models/tokenizer/stop-strings.ts'
import { RequestError } from '../errors.ts'

/** What bodies of several APIs have alike, and how a body is checked. */

const MAX_NEW_TOKENS = 1 << 20
export const MAX_MESSAGES = 4096
export const MAX_SCOPE_LENGTH = 512

export const text = z.string()
export const role = z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function'])
export const stop = z.string().min(1).max(MAX_STOP_CHARS)
export const stops = z.array(stop).max(MAX_STOP_STRINGS)
export const tokens = z.int().min(1).max(MAX_NEW_TOKENS)
/** No limit, and so the rest of the context, is what -1 and 0 mean elsewhere. */
export const tokenLimit = z
  .union([tokens, z.literal([-1, 0])])
  .nullish()
  .transform(most => (typeof most === 'number' && most > 0 ? most : undefined))
/** Tools that one request may define. */
export const MAX_TOOLS = 512
export const toolName = z.string().min(1).max(128)
export const model = z.string().min(1).max(512).optional()
export const objective = z.enum(['latency', 'throughput']).optional()
export const privacy = z.enum(['prompt', 'sealed']).optional()

/** Without the fields that a client left out or set to null. */
export function defined(fieldsOfRequest: Record<string, unknown>): Record<string, unknown> {
  return Object.fromEntries(
    Object.entries(fieldsOfRequest).filter(([, value]) => value !== undefined && value !== null)
  )
}

/** @throws {RequestError} naming the first field that is wrong. */
export function parse<T>(schema: z.ZodType<T>, body: unknown): T {
  const result = schema.safeParse(body)
  if (result.success) return result.data
  const issue = result.error.issues[0]!
  const path = issue.path.join('.')
  throw new RequestError(
    path === '' ? issue.message : `${path}: ${issue.message}`,
    path === '' ? undefined : path
  )
}
