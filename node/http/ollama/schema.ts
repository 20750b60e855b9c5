import * as z from 'zod'
import type { GenerateRequest, GenerateResult, ModelSummary } from '../../api.ts'
import { parseDuration } from '../../duration.ts'
import { parse, role, stops, text, tokens } from '../fields.ts'
import { refuseUndoneOfOllama } from '../undone-fields.ts'

/** Routes of Ollama's API that answer prompts: the text is in `message` or in `response`. */
export type OllamaKind = 'chat' | 'generate'

const options = z.object({
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  seed: z.int().min(0).nullish(),
  // Ollama's -1 and -2 mean as many as there is room for.
  num_predict: z.union([tokens, z.literal([-1, -2])]).nullish(),
  stop: stops.nullish()
})
const shared = {
  model: z.string().min(1).max(512),
  stream: z.boolean().nullish(),
  options: options.nullish(),
  keep_alive: z
    .union([z.number(), z.string().max(64)])
    .transform((value, context) => {
      const ms = parseDuration(value)
      if (ms !== undefined) return ms
      context.addIssue({ code: 'custom', message: 'give seconds, or a time such as "5m"' })
      return z.NEVER
    })
    .nullish(),
  format: z.literal('', 'only text answers are supported').nullish()
}
const chatSchema = z.object({
  ...shared,
  messages: z.array(z.object({ role, content: text })).max(4096),
  tools: z.array(z.never(), 'tools are not supported').max(0, 'tools are not supported').nullish()
})
const generateSchema = z.object({
  ...shared,
  prompt: text.nullish(),
  system: text.nullish(),
  raw: z.boolean().nullish(),
  suffix: z.literal('', 'suffix is not supported').nullish()
})

export interface OllamaRequest {
  model: string
  stream: boolean
  /** Null: the client only wants the model to be ready, or, where `keepAliveMs` is 0, to be let go. */
  request: GenerateRequest | null
  /** How long the model is to stay loaded; undefined: nothing was said. */
  keepAliveMs: number | undefined
}

/** Body of Ollama's /api/chat or /api/generate in the node's words. */
export function parseOllama(kind: OllamaKind, body: unknown): OllamaRequest {
  refuseUndoneOfOllama(body)
  const parsed = kind === 'chat' ? parse(chatSchema, body) : parse(generateSchema, body)
  const input = inputOf(parsed)
  const { model } = parsed
  const keepAliveMs = parsed.keep_alive ?? undefined
  const kept = keepAliveMs === undefined ? {} : { keepAliveMs }
  return {
    model,
    stream: parsed.stream !== false,
    request: input === null ? null : { model, input, ...samplingOf(parsed.options ?? {}), ...kept },
    keepAliveMs
  }
}

function inputOf(
  parsed: z.infer<typeof chatSchema> | z.infer<typeof generateSchema>
): GenerateRequest['input'] | null {
  if ('messages' in parsed)
    return parsed.messages.length === 0 ? null : { kind: 'chat', messages: parsed.messages }
  const { prompt, system, raw } = parsed
  if (prompt === undefined || prompt === null || prompt === '') return null
  if (raw === true) return { kind: 'raw', text: prompt }
  const before = system === undefined || system === null ? [] : [{ role: 'system', content: system }]
  return { kind: 'chat', messages: [...before, { role: 'user', content: prompt }] }
}

function samplingOf({ temperature, top_p: topP, seed, num_predict: most, stop }: z.infer<typeof options>) {
  const maxTokens = most === -1 || most === -2 ? undefined : most
  return {
    ...(typeof temperature === 'number' ? { temperature } : {}),
    ...(typeof topP === 'number' ? { topP } : {}),
    ...(typeof seed === 'number' ? { seed } : {}),
    ...(typeof maxTokens === 'number' ? { maxTokens } : {}),
    ...(Array.isArray(stop) ? { stop } : {})
  }
}

/** One piece of an answer; the last one says how it went. */
export function ollamaPiece(kind: OllamaKind, model: string, content: string): Record<string, unknown> {
  const head = { model, created_at: new Date().toISOString() }
  return kind === 'chat'
    ? { ...head, message: { role: 'assistant', content }, done: false }
    : { ...head, response: content, done: false }
}

/** Ollama's figures: durations in nanoseconds. */
export function ollamaFigures(result: GenerateResult): Record<string, unknown> {
  const { promptTokens, tokens: generated, ttftMs, tpotMs, finishReason, plan } = result
  const evalMs = tpotMs * Math.max(0, generated.length - 1)
  const ns = (ms: number) => Math.round(ms * 1e6)
  return {
    done: true,
    done_reason: finishReason,
    total_duration: ns(ttftMs + evalMs),
    load_duration: 0,
    prompt_eval_count: promptTokens,
    prompt_eval_duration: ns(ttftMs),
    eval_count: generated.length,
    eval_duration: ns(evalMs),
    edgeshard: { plan }
  }
}

/** An entry of Ollama's /api/tags; `name` is what a client asks for the model by. */
export function ollamaModel(
  { id, architecture, precision, weightBytes }: ModelSummary,
  name: string
): object {
  const details = {
    parent_model: '',
    format: 'edgeshard',
    family: architecture,
    families: [architecture],
    parameter_size: '',
    quantization_level: precision
  }
  return { name, model: name, modified_at: new Date(0).toISOString(), size: weightBytes, digest: id, details }
}
