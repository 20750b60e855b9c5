import * as z from 'zod'
import type { GenerateRequest, ScenarioNeeds } from '../api.ts'
import { MAX_STOP_TOKEN_IDS } from '../constants.ts'
import { METHODS } from '../plan/problem.ts'
import {
  defined,
  jsonObject,
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

export const scenarioNeedsSchema = z.object({
  model,
  promptTokens: z.coerce.number().pipe(tokens).optional(),
  newTokens: z.coerce.number().pipe(tokens).optional(),
  ...planFields
})

const call = z.strictObject({ id: z.string().max(256), name: toolName, arguments: text })
const message = z.strictObject({
  role,
  content: text,
  reasoning: text.optional(),
  toolCalls: z.array(call).max(MAX_CALLS).optional(),
  toolCallId: z.string().max(256).optional(),
  name: z.string().max(256).optional()
})
const tool = z.strictObject({
  name: toolName,
  description: text.optional(),
  parameters: jsonObject.optional()
})
export const generateSchema = z.object({
  model,
  input: z.discriminatedUnion('kind', [
    z.object({ kind: z.literal('raw'), text }),
    z.object({ kind: z.literal('ids'), ids: z.array(z.int().min(0)).min(1) }),
    z.strictObject({
      kind: z.literal('chat'),
      messages: z.array(message).min(1).max(MAX_MESSAGES),
      tools: z.array(tool).max(MAX_TOOLS).optional(),
      thinking: z.union([z.boolean(), z.enum(['low', 'medium', 'high'])]).optional(),
      templateArguments: templateArguments.optional(),
      parallel: z.boolean().optional(),
      split: z.boolean().optional()
    })
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
})

export const tokenizeSchema = z.object({ model, text })

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
