import * as z from 'zod'
import type {
  ChatInput,
  ChatMessage,
  Constraint,
  GenerateRequest,
  LoadOptions,
  ScenarioNeeds,
  ToolCall,
  ToolDefinition
} from '../api.ts'
import { MAX_STOP_TOKEN_IDS } from '../constants.ts'
import { METHODS } from '../plan/problem.ts'
import { MAX_GATHER_MS } from './constants.ts'
import {
  defined,
  draftFields,
  jsonObject,
  keepAlive,
  MAX_CALLS,
  MAX_MESSAGES,
  MAX_SCOPE_LENGTH,
  MAX_TOOLS,
  meshFields,
  model,
  parse,
  planFields,
  role,
  stops,
  templateArguments,
  text,
  tokens,
  toolName
} from './fields.ts'
import { MAX_CHOICES, schemaOfAnswer } from './forms.ts'

export const scenarioNeedsSchema = z.object({
  model,
  promptTokens: z.coerce.number().pipe(tokens).optional(),
  newTokens: z.coerce.number().pipe(tokens).optional(),
  ...planFields,
  ...draftFields
})

/** A check of every field of a T: one that the type gets and nobody checks here is found by the compiler. */
type Checks<T> = Record<keyof T, z.ZodType>

const call = z.strictObject({
  id: z.string().max(256),
  name: toolName,
  arguments: text
} satisfies Checks<ToolCall>)
const message = z.strictObject({
  role,
  content: text,
  reasoning: text.optional(),
  toolCalls: z.array(call).max(MAX_CALLS).optional(),
  toolCallId: z.string().max(256).optional(),
  name: z.string().max(256).optional()
} satisfies Checks<ChatMessage>)
const tool = z.strictObject({
  name: toolName,
  description: text.optional(),
  parameters: jsonObject.optional()
} satisfies Checks<ToolDefinition>)
const chat = {
  kind: z.literal('chat'),
  messages: z.array(message).min(1).max(MAX_MESSAGES),
  tools: z.array(tool).max(MAX_TOOLS).optional(),
  choice: z
    .union(
      [z.literal('required'), z.strictObject({ name: toolName })],
      'give "required", or a tool by its name'
    )
    .optional(),
  thinking: z.union([z.boolean(), z.enum(['low', 'medium', 'high'])]).optional(),
  templateArguments: templateArguments.optional(),
  parallel: z.boolean().optional(),
  split: z.boolean().optional()
} satisfies Checks<ChatInput>

const calledTool = z.strictObject({ name: toolName, parameters: schemaOfAnswer.optional() })
/** One of each kind; what is no grammar is found where one is made of it. */
const constraints = {
  schema: z.strictObject({ kind: z.literal('schema'), schema: schemaOfAnswer }),
  regex: z.strictObject({ kind: z.literal('regex'), pattern: text.min(1) }),
  choice: z.strictObject({
    kind: z.literal('choice'),
    choices: z.array(text.min(1)).min(1).max(MAX_CHOICES)
  }),
  grammar: z.strictObject({ kind: z.literal('grammar'), text: text.min(1) }),
  calls: z.strictObject({
    kind: z.literal('calls'),
    tools: z.array(calledTool).min(1).max(MAX_TOOLS),
    parallel: z.boolean()
  })
} satisfies { [Kind in Constraint['kind']]: z.ZodType<Extract<Constraint, { kind: Kind }>> }
const constraint = z.discriminatedUnion('kind', [
  constraints.schema,
  constraints.regex,
  constraints.choice,
  constraints.grammar,
  constraints.calls
])

export const generateSchema = z.object({
  model,
  input: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('raw'), text }),
    z.object({ kind: z.literal('ids'), ids: z.array(z.int().min(0)).min(1) }),
    z.strictObject(chat)
  ]),
  maxTokens: tokens.optional(),
  temperature: z.number().min(0).max(2).optional(),
  topP: z.number().min(0).max(1).optional(),
  seed: z.int().optional(),
  topLogprobs: z.int().min(0).max(20).optional(),
  topK: z.int().min(0).optional(),
  minP: z.number().min(0).max(1).optional(),
  repetitionPenalty: z.number().optional(),
  frequencyPenalty: z.number().optional(),
  presencePenalty: z.number().optional(),
  penaltyWindow: z.int().optional(),
  logitBias: z.record(z.string(), z.number()).optional(),
  stop: stops.optional(),
  stopTokenIds: z.array(z.int()).max(MAX_STOP_TOKEN_IDS).optional(),
  minTokens: z.int().optional(),
  constraint: constraint.optional(),
  ignoreEos: z.boolean().optional(),
  ...meshFields,
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
  // A request's priority is its key's to say.
} satisfies Checks<Omit<GenerateRequest, 'priority'>>)

/** For readers to whom each part of an answer costs something: between two of them is so much time, unless one ends it. */
export const gatheringSchema = z.object({
  gatherMs: z.coerce.number().int().min(0).max(MAX_GATHER_MS).default(0)
})

export const tokenizeSchema = z.object({ model, text })

export const loadSchema = z.strictObject({
  model,
  keep_alive: keepAlive.refine(
    ms => ms !== 0,
    'a model that is to stay loaded for no time is not loaded ahead'
  ),
  maxTokens: tokens.optional(),
  ...planFields,
  ...draftFields,
  exact: z.boolean().optional()
} satisfies Checks<Omit<LoadOptions, 'keepAliveMs'> & { model: string; keep_alive: number }>)

/** Body of /api/generate: a GenerateRequest as it is, but for the priority. */
export function parseGenerate(body: unknown): GenerateRequest {
  return defined(parse(generateSchema, body)) as unknown as GenerateRequest
}

/** Query of /api/generate. */
export function parseGathering(query: Record<string, string>): { gatherMs: number } {
  return parse(gatheringSchema, query)
}

/** Body of /api/load. */
export function parseLoad(body: unknown): LoadOptions & { model?: string } {
  const { keep_alive: keepAliveMs, ...asked } = parse(loadSchema, body)
  return defined({ ...asked, keepAliveMs })
}

/** Body of /api/tokenize. */
export function parseTokenize(body: unknown): { text: string; model?: string } {
  return defined(parse(tokenizeSchema, body)) as { text: string; model?: string }
}

/** Query of /api/scenario. */
export function parseScenarioNeeds(query: Record<string, string>): ScenarioNeeds {
  return defined(parse(scenarioNeedsSchema, query)) as unknown as ScenarioNeeds
}
