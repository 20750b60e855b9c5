import * as z from 'zod'
import { MAX_STOP_CHARS, MAX_STOP_STRINGS } from '../../models/tokenizer/stop-strings.ts'
import type { GenerateRequest, ScenarioNeeds } from '../api.ts'
import { RequestError } from '../errors.ts'
import { METHODS } from '../plan/problem.ts'
import { refuseUndoneOfChat, refuseUndoneOfCompletion } from './undone-fields.ts'

const MAX_NEW_TOKENS = 1 << 20
const MAX_MESSAGES = 4096
const MAX_SCOPE_LENGTH = 512

export const text = z.string()
export const role = z.enum(['system', 'developer', 'user', 'assistant', 'tool', 'function'])
const parts = z.array(z.object({ type: z.literal('text', 'only text parts are understood'), text })).max(1024)
const message = z.object({ role, content: z.union([text, parts]).nullish() })
export const stop = z.string().min(1).max(MAX_STOP_CHARS)
export const stops = z.array(stop).max(MAX_STOP_STRINGS)
export const tokens = z.int().min(1).max(MAX_NEW_TOKENS)
const fields = {
  model: z.string().min(1).max(512).optional(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  seed: z.int().nullish(),
  stop: z.union([stop, stops]).nullish(),
  max_tokens: tokens.nullish(),
  n: z.literal(1, 'only one answer at a time (n = 1)').nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  objective: z.enum(['latency', 'throughput']).optional(),
  privacy: z.enum(['prompt', 'sealed']).optional(),
  exact: z.boolean().nullish(),
  user: z.string().max(MAX_SCOPE_LENGTH).nullish(),
  prompt_cache_key: z.string().max(MAX_SCOPE_LENGTH).nullish(),
  // What would change an answer is refused instead of passed over in silence.
  frequency_penalty: z.literal(0, 'penalties are not supported').nullish(),
  presence_penalty: z.literal(0, 'penalties are not supported').nullish(),
  logit_bias: z.strictObject({}, 'logit_bias is not supported').nullish()
}

const scenarioNeedsSchema = z.object({
  model: fields.model,
  promptTokens: z.coerce.number().pipe(tokens).optional(),
  newTokens: z.coerce.number().pipe(tokens).optional(),
  objective: fields.objective,
  privacy: fields.privacy
})

const chatSchema = z.object({
  ...fields,
  messages: z.array(message).min(1).max(MAX_MESSAGES),
  max_completion_tokens: tokens.nullish(),
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  response_format: z.object({ type: z.literal('text', 'only text answers are supported') }).nullish(),
  tools: z.array(z.never(), 'tools are not supported').max(0, 'tools are not supported').nullish()
})

const completionSchema = z.object({
  ...fields,
  prompt: z.union([text, z.tuple([text]).transform(([only]) => only)], 'give one prompt, as text'),
  logprobs: z.union([z.int().min(0).max(20), z.literal(false)]).nullish(),
  echo: z.literal(false, 'echo is not supported').nullish(),
  suffix: z.literal('', 'suffix is not supported').nullish(),
  best_of: z.literal(1, 'best_of is not supported').nullish()
})

const generateSchema = z.object({
  model: fields.model,
  input: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('raw'), text }),
    z.object({
      kind: z.literal('chat'),
      messages: z
        .array(z.object({ role, content: text }))
        .min(1)
        .max(MAX_MESSAGES)
    })
  ]),
  maxTokens: tokens.optional(),
  temperature: z.number().min(0).max(2).optional(),
  topP: z.number().min(0).max(1).optional(),
  seed: z.int().optional(),
  topLogprobs: z.int().min(0).max(20).optional(),
  stop: stops.optional(),
  ignoreEos: z.boolean().optional(),
  objective: fields.objective,
  privacy: fields.privacy,
  exact: z.boolean().optional(),
  conversation: z.string().max(MAX_SCOPE_LENGTH).optional(),
  keepAliveMs: z.number().optional(),
  placement: z
    .strictObject({
      method: z.enum(METHODS).optional(),
      cloud: z.string().max(128).optional(),
      batch: z.int().min(1).max(256).optional(),
      microBatches: z.int().min(1).max(256).optional(),
      strategy: z.enum(['no-bubble', 'bubble']).optional()
    })
    .optional()
})

const tokenizeSchema = z.object({ model: fields.model, text })

/** A request of OpenAI's API in the node's words, with what the form of the answer depends on. */
export interface OpenAiRequest {
  request: GenerateRequest
  stream: boolean
  includeUsage: boolean
  logprobs: boolean
}

/** Body of /v1/chat/completions. */
export function parseChat(body: unknown): OpenAiRequest {
  refuseUndoneOfChat(body)
  const parsed = parse(chatSchema, body)
  const messages = parsed.messages.map(({ role, content }) => ({ role, content: contentText(content) }))
  const logprobs = parsed.logprobs === true
  if (!logprobs && (parsed.top_logprobs ?? 0) > 0) {
    throw new RequestError('top_logprobs needs "logprobs": true', 'top_logprobs')
  }
  const maxTokens = parsed.max_completion_tokens ?? parsed.max_tokens
  return shared(parsed, { kind: 'chat', messages }, maxTokens, logprobs ? (parsed.top_logprobs ?? 0) : null)
}

/** Body of /v1/completions; OpenAI's default is 16 tokens. */
export function parseCompletion(body: unknown): OpenAiRequest {
  refuseUndoneOfCompletion(body)
  const parsed = parse(completionSchema, body)
  const input = { kind: 'raw' as const, text: parsed.prompt }
  return shared(
    parsed,
    input,
    parsed.max_tokens ?? 16,
    parsed.logprobs === false ? null : (parsed.logprobs ?? null)
  )
}

/** Body of /api/generate: a GenerateRequest as it is. */
export function parseGenerate(body: unknown): GenerateRequest {
  return defined(parse(generateSchema, body)) as unknown as GenerateRequest
}

/** Body of /api/tokenize. */
export function parseTokenize(body: unknown): { text: string; model?: string } {
  return defined(parse(tokenizeSchema, body)) as { text: string; model?: string }
}

/** Query of /api/scenario. */
export function parseScenarioNeeds(query: Record<string, string>): ScenarioNeeds {
  return defined(parse(scenarioNeedsSchema, query)) as unknown as ScenarioNeeds
}

type Shared = z.infer<z.ZodObject<typeof fields>>

function shared(
  parsed: Shared,
  input: GenerateRequest['input'],
  maxTokens: number | null | undefined,
  topLogprobs: number | null
): OpenAiRequest {
  const request = defined({
    input,
    model: parsed.model,
    maxTokens,
    temperature: parsed.temperature,
    topP: parsed.top_p,
    seed: parsed.seed,
    topLogprobs,
    stop: typeof parsed.stop === 'string' ? [parsed.stop] : parsed.stop,
    objective: parsed.objective,
    privacy: parsed.privacy,
    exact: parsed.exact,
    conversation: parsed.prompt_cache_key ?? parsed.user
  }) as unknown as GenerateRequest
  return {
    request,
    stream: parsed.stream === true,
    includeUsage: parsed.stream_options?.include_usage === true,
    logprobs: topLogprobs !== null
  }
}

function contentText(content: z.infer<typeof message>['content']): string {
  if (content === null || content === undefined) return ''
  return typeof content === 'string' ? content : content.map(part => part.text).join('')
}

/** Without the fields that a client left out or set to null. */
function defined(fieldsOfRequest: Record<string, unknown>): Record<string, unknown> {
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
