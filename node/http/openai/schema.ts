import * as z from 'zod'
import type { ChatInput, GenerateRequest } from '../../api.ts'
import { RequestError } from '../../errors.ts'
import type { Asked } from '../answer.ts'
import {
  defined,
  effort,
  MAX_MESSAGES,
  MAX_TOOLS,
  meshFields,
  meshOptions,
  modelOrDefault,
  parse,
  scope,
  seed,
  someStops,
  templateArguments,
  text,
  thinkingOf,
  tokenLimit,
  toolName
} from '../fields.ts'
import { FORM_FIELDS, formOf } from '../forms.ts'
import { samplingFields, samplingOptions, undoneOfSampling } from '../sampling-fields.ts'
import { CHAT_FIELDS, COMPLETION_FIELDS, HARMLESS_FIELDS, refuseUndone } from '../undone-fields.ts'
import { fieldOf, unknownFields, unknownWithin } from '../unknown-fields.ts'
import { definitionOf, functionTool, KNOWN_OF_MESSAGES, message, turnsOf } from './messages.ts'
import { constraintOf, responseFormat } from './response-format.ts'

/** Prompts of one request, and answers to all of them. */
const MAX_PROMPTS = 256
/** Answers to one prompt, as many as OpenAI gives. */
const MAX_CHOICES = 128

const fields = {
  model: modelOrDefault,
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  seed,
  stop: someStops,
  max_tokens: tokenLimit,
  n: z.int().min(1).max(MAX_CHOICES).nullish(),
  stream: z.boolean().nullish(),
  stream_options: z.object({ include_usage: z.boolean().nullish() }).nullish(),
  // A field of llama.cpp's.
  return_progress: z.boolean().nullish(),
  ...samplingFields,
  ...meshFields,
  user: scope,
  prompt_cache_key: scope,
  response_format: responseFormat.nullish()
}

export const chatSchema = z.object({
  ...fields,
  messages: z.array(message).min(1).max(MAX_MESSAGES),
  max_completion_tokens: tokenLimit,
  logprobs: z.boolean().nullish(),
  top_logprobs: z.int().min(0).max(20).nullish(),
  tools: z.array(functionTool).max(MAX_TOOLS).nullish(),
  tool_choice: z
    .union(
      [
        z.enum(['auto', 'none', 'required']),
        z.object({ type: z.literal('function'), function: z.object({ name: toolName }) })
      ],
      'give "auto", "none", "required", or a function by its name'
    )
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  reasoning_effort: effort.nullish(),
  enable_thinking: z.boolean().nullish(),
  chat_template_kwargs: templateArguments.nullish()
})

const tokenIds = z.array(z.int().min(0)).min(1)
export const completionSchema = z.object({
  ...fields,
  prompt: z.union(
    [text, tokenIds, z.array(text).min(1).max(MAX_PROMPTS), z.array(tokenIds).min(1).max(MAX_PROMPTS)],
    'give a text, a list of texts, token ids, or a list of lists of token ids'
  ),
  logprobs: z.union([z.int().min(0).max(20), z.literal(false)]).nullish(),
  echo: z.literal(false, 'echo is not supported').nullish(),
  suffix: z.literal('', 'suffix is not supported').nullish(),
  best_of: z.literal(1, 'best_of is not supported').nullish()
})

const known = (schema: z.ZodObject, undone: object): ReadonlySet<string> =>
  new Set([...Object.keys(schema.shape), ...Object.keys(undone), ...FORM_FIELDS, ...HARMLESS_FIELDS])
const KNOWN_OF_CHAT = known(chatSchema, CHAT_FIELDS)
const KNOWN_OF_COMPLETION = known(completionSchema, COMPLETION_FIELDS)

/** A request of OpenAI's API in the node's words, with what the form of the answer depends on. */
export interface OpenAiRequest extends Asked {
  includeUsage: boolean
  /** A stream tells how far the prompt is. */
  progress: boolean
  logprobs: boolean
}

/** A request of one choice or more: `choicesOfEach` of each prompt, one behind another, alike but for prompt and seed. */
export interface ChoicesRequest extends OpenAiRequest {
  requests: GenerateRequest[]
  choicesOfEach: number
}

/** Body of /v1/chat/completions. */
export function parseChat(body: unknown): ChoicesRequest {
  refuseUndone(body, CHAT_FIELDS)
  const parsed = parse(chatSchema, body)
  const ignored = [
    ...unknownFields(body, KNOWN_OF_CHAT),
    ...unknownWithin(fieldOf(body, 'messages'), KNOWN_OF_MESSAGES, 'messages'),
    ...undoneOfSampling(parsed),
    // Arguments of calls are the model's own: nothing holds them to the schema.
    ...(parsed.tools?.some(tool => tool.function.strict === true) ? ['tools.function.strict'] : [])
  ]
  const logprobs = parsed.logprobs === true
  if (!logprobs && (parsed.top_logprobs ?? 0) > 0) {
    throw new RequestError('top_logprobs needs "logprobs": true', 'top_logprobs')
  }
  const maxTokens = parsed.max_completion_tokens ?? parsed.max_tokens
  const topLogprobs = logprobs ? (parsed.top_logprobs ?? 0) : null
  return { ...shared(body, parsed, [chatInput(parsed)], { maxTokens, topLogprobs }), ignored }
}

/** Body of /v1/completions; OpenAI's default is 16 tokens. */
export function parseCompletion(body: unknown): ChoicesRequest {
  refuseUndone(body, COMPLETION_FIELDS)
  const unknown = unknownFields(body, KNOWN_OF_COMPLETION)
  const parsed = parse(completionSchema, body)
  const ignored = [...unknown, ...undoneOfSampling(parsed)]
  const isNamed =
    typeof body === 'object' && body !== null && 'max_tokens' in body && body.max_tokens !== null
  const topLogprobs = parsed.logprobs === false ? null : (parsed.logprobs ?? null)
  const maxTokens = isNamed ? parsed.max_tokens : 16
  return { ...shared(body, parsed, inputsOf(parsed.prompt), { maxTokens, topLogprobs }), ignored }
}

function chatInput(parsed: z.infer<typeof chatSchema>): ChatInput {
  const { tools, tool_choice: choice, parallel_tool_calls: parallel } = parsed
  const thinking = parsed.enable_thinking ?? thinkingOf(parsed.reasoning_effort)
  return {
    kind: 'chat',
    messages: turnsOf(parsed.messages),
    ...(tools && tools.length > 0 && choice !== 'none' && { tools: tools.map(definitionOf) }),
    ...(choice === 'required' && { choice }),
    ...(typeof choice === 'object' && choice !== null && { choice: { name: choice.function.name } }),
    ...(parallel === false && { parallel }),
    ...(thinking !== undefined && { thinking }),
    ...(parsed.chat_template_kwargs && { templateArguments: parsed.chat_template_kwargs }),
    split: true
  }
}

function inputsOf(prompt: z.infer<typeof completionSchema>['prompt']): GenerateRequest['input'][] {
  if (typeof prompt === 'string') return [{ kind: 'raw', text: prompt }]
  const isOne = prompt.every(item => typeof item === 'number')
  if (isOne) return [{ kind: 'ids', ids: prompt }]
  return (prompt as (string | number[])[]).map(item =>
    typeof item === 'string' ? { kind: 'raw', text: item } : { kind: 'ids', ids: item }
  )
}

type Shared = z.infer<z.ZodObject<typeof fields>>

function shared(
  body: unknown,
  parsed: Shared,
  inputs: readonly GenerateRequest['input'][],
  { maxTokens, topLogprobs }: { maxTokens: number | undefined; topLogprobs: number | null }
): Omit<ChoicesRequest, 'ignored'> {
  const request = defined({
    input: inputs[0],
    model: parsed.model,
    maxTokens,
    temperature: parsed.temperature,
    topP: parsed.top_p,
    seed: parsed.seed,
    topLogprobs,
    stop: parsed.stop,
    ...samplingOptions(parsed),
    constraint: formOf(body, { field: 'response_format', constraint: constraintOf(parsed.response_format) }),
    ...meshOptions(parsed),
    conversation: parsed.prompt_cache_key ?? parsed.user
  }) as unknown as GenerateRequest
  const choicesOfEach = parsed.n ?? 1
  if (inputs.length * choicesOfEach > MAX_PROMPTS) {
    throw new RequestError(`n: at most ${MAX_PROMPTS} answers to all prompts together`, 'n')
  }
  const requests = inputs.flatMap(input =>
    Array.from({ length: choicesOfEach }, (_, choice) => ({ ...request, input, ...seedOf(request, choice) }))
  )
  return {
    request,
    requests,
    choicesOfEach,
    stream: parsed.stream === true,
    includeUsage: parsed.stream_options?.include_usage === true,
    progress: parsed.return_progress === true,
    logprobs: topLogprobs !== null
  }
}

/** Choices of a prompt have neighbouring seeds, as vLLM's do: each is the answer that its seed has alone. */
function seedOf({ seed }: GenerateRequest, choice: number): Pick<GenerateRequest, 'seed'> {
  return seed === undefined ? {} : { seed: (seed + choice) % Number.MAX_SAFE_INTEGER }
}
