import { createHash } from 'node:crypto'
import * as z from 'zod'
import { MAX_STOP_CHARS, MAX_STOP_STRINGS } from '../../models/tokenizer/stop-strings.ts'
import type { ChatInput, GenerateRequest } from '../api.ts'
import { parseDuration } from '../duration.ts'
import { RequestError } from '../errors.ts'
import { isShallow, MAX_LEVELS } from '../shallow.ts'

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
  .int()
  .min(-1)
  .max(MAX_NEW_TOKENS)
  .nullish()
  .transform(most => (typeof most === 'number' && most > 0 ? most : undefined))
/** Tools that one request may define, and calls that one message may have. */
export const MAX_TOOLS = 512
export const MAX_CALLS = 512
export const toolName = z.string().min(1).max(128)
export const model = z.string().min(1).max(512).optional()
/** Nothing, and no name, mean the default model. */
export const modelOrDefault = z
  .string()
  .max(512)
  .nullish()
  .transform(name => name || undefined)
const MAX_SEED = 2 ** 64
/** Negative numbers mean any; what JavaScript cannot tell from its neighbours is made smaller. */
export const seed = z
  .number()
  .refine(given => Number.isInteger(given) && Math.abs(given) <= MAX_SEED, 'give a whole number of 64 bits')
  .nullish()
  .transform(given => {
    if (given === undefined || given === null || given < 0) return undefined
    return given % Number.MAX_SAFE_INTEGER
  })
/** One text or several to stop at; an empty one stops nothing. */
export const someStops = z
  .union([z.string().max(MAX_STOP_CHARS), z.array(z.string().max(MAX_STOP_CHARS)).max(MAX_STOP_STRINGS)])
  .nullish()
  .transform(given => {
    const wanted = [given ?? []].flat().filter(one => one !== '')
    return wanted.length === 0 ? undefined : wanted
  })
/** A client's name for what belongs together; a long one is known by its digest. */
export const scope = z
  .string()
  .nullish()
  .transform(given => {
    if (given === undefined || given === null || given.length <= MAX_SCOPE_LENGTH) return given ?? undefined
    return createHash('sha256').update(given).digest('hex')
  })
/** How long a model stays loaded, in ms, as Ollama writes it. */
export const keepAlive = z
  .union([z.number(), z.string().max(64)])
  .transform((value, context) => {
    const ms = parseDuration(value)
    if (ms !== undefined) return ms
    context.addIssue({ code: 'custom', message: 'give seconds, or a time such as "5m"' })
    return z.NEVER
  })
  .nullish()
/** How hard a model is to think, as OpenAI's API has it. */
export const effort = z.enum(['none', 'minimal', 'low', 'medium', 'high', 'xhigh'])

/** The same in the node's words. */
export function thinkingOf(given: z.infer<typeof effort> | null | undefined): ChatInput['thinking'] {
  if (given === undefined || given === null) return undefined
  if (given === 'none') return false
  if (given === 'minimal') return 'low'
  return given === 'xhigh' ? 'high' : given
}

/** An object of anything, as schemas and arguments are. */
export const jsonObject = z
  .record(z.string(), z.unknown())
  .refine(isShallow, `more than ${MAX_LEVELS} levels deep`)

const MAX_ARGUMENTS = 64
/** Variables for a model's chat template; it is looked which of them it reads. */
export const templateArguments = jsonObject.refine(
  given => Object.keys(given).length <= MAX_ARGUMENTS,
  `more than ${MAX_ARGUMENTS} of them`
)

/** What a plan is to aim for. */
export const planFields = {
  objective: z.enum(['latency', 'throughput']).optional(),
  privacy: z.enum(['prompt', 'sealed']).optional()
}

const SPECULATE = ['off', 'ngram', 'draft', 'auto', 'mtp'] as const

/** What guesses tokens ahead. */
export const draftFields = {
  speculate: z.enum(SPECULATE).optional(),
  draft: z.string().min(1).max(512).optional()
}

/** How the mesh is to answer: the same in every API. */
export const meshFields = {
  ...planFields,
  ...draftFields,
  exact: z.boolean().nullish(),
  standby: z.boolean().nullish()
}

/** These in the node's words, where they were given. */
export function meshOptions({
  objective,
  privacy,
  speculate,
  draft,
  exact,
  standby
}: z.infer<z.ZodObject<typeof meshFields>>): Pick<
  GenerateRequest,
  'objective' | 'privacy' | 'speculate' | 'draft' | 'exact' | 'standby'
> {
  return {
    ...(objective && { objective }),
    ...(privacy && { privacy }),
    ...(speculate && { speculate }),
    ...(draft && { draft }),
    ...(typeof exact === 'boolean' && { exact }),
    ...(typeof standby === 'boolean' && { standby })
  }
}

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
  const { path, message } = told(result.error.issues[0]!)
  const field = path.join('.')
  throw new RequestError(field === '' ? message : `${field}: ${message}`, field === '' ? undefined : field)
}

type Issue = Pick<z.core.$ZodIssue, 'path' | 'message'>

/** What is wrong, in the words of the form that the value is nearest to, where it may have several. */
function told(issue: z.core.$ZodIssue): Issue {
  if (issue.code !== 'invalid_union') return issue
  let most: Issue = issue
  for (const [first] of issue.errors) {
    if (first === undefined) continue
    const { path, message } = told(first)
    if (path.length > most.path.length - issue.path.length) most = { path: [...issue.path, ...path], message }
  }
  return most
}
