import * as z from 'zod'
import type { ChatInput, ChatMessage, Constraint, GenerateRequest, LoadOptions } from '../../api.ts'
import type { Asked } from '../answer.ts'
import {
  defined,
  jsonObject,
  keepAlive,
  MAX_CALLS,
  MAX_MESSAGES,
  MAX_TOOLS,
  meshFields,
  meshOptions,
  parse,
  role,
  seed,
  someStops,
  text,
  tokenLimit,
  toolName
} from '../fields.ts'
import { ANY_OBJECT } from '../forms.ts'
import { ollamaSampling, samplingFields, undoneOfSampling } from '../sampling-fields.ts'
import { OLLAMA_FIELDS, OLLAMA_OPTIONS, RUN_OPTIONS, refuseUndoneOfOllama } from '../undone-fields.ts'
import { fieldOf, unknownFields, unknownWithin } from '../unknown-fields.ts'

/** Routes of Ollama's API that answer prompts: the text is in `message` or in `response`. */
export type OllamaKind = 'chat' | 'generate'

const options = z.object({
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  seed,
  ...samplingFields,
  // Ollama's -1 and -2 mean as many as there is room for.
  num_predict: z
    .literal(-2)
    .transform(() => undefined)
    .or(tokenLimit),
  stop: someStops
})
const call = z.object({
  id: z.string().max(256).nullish(),
  function: z.object({ name: toolName, arguments: jsonObject.nullish() })
})
const message = z.object({
  role,
  content: text.nullish(),
  thinking: text.nullish(),
  tool_calls: z.array(call).max(MAX_CALLS).nullish(),
  tool_name: z.string().max(256).nullish(),
  tool_call_id: z.string().max(256).nullish(),
  name: z.string().max(256).nullish()
})
const tool = z.object({
  type: z.literal('function', 'only functions are supported as tools').nullish(),
  function: z.object({
    name: toolName,
    description: text.nullish(),
    parameters: jsonObject.nullish()
  })
})
/** `json`, which is any object, or a schema; nothing asks for none. */
function constraintOf(
  format: '' | 'json' | Record<string, unknown> | null | undefined
): Constraint | undefined {
  if (format === undefined || format === null || format === '') return undefined
  return format === 'json' ? ANY_OBJECT : { kind: 'schema', schema: format }
}

/** What all bodies of Ollama's API may have. */
export const shared = {
  model: z
    .string()
    .min(1)
    .max(512)
    .transform(name => name.replace(/:latest$/, '')),
  stream: z.boolean().nullish(),
  options: options.nullish(),
  think: z.union([z.boolean(), z.enum(['low', 'medium', 'high'])]).nullish(),
  keep_alive: keepAlive,
  format: z
    .union([z.enum(['', 'json']), jsonObject], 'give "json" or a JSON schema')
    .nullish()
    .transform(constraintOf),
  ...meshFields
}
export const ollamaChatSchema = z.object({
  ...shared,
  messages: z.array(message).max(MAX_MESSAGES).nullish(),
  tools: z.array(tool).max(MAX_TOOLS).nullish(),
  tool_choice: z.enum(['auto', 'none']).nullish()
})
export const ollamaGenerateSchema = z.object({
  ...shared,
  prompt: text.nullish(),
  system: text.nullish(),
  raw: z.boolean().nullish(),
  suffix: z.literal('', 'suffix is not supported').nullish()
})

const KNOWN: ReadonlySet<string> = new Set([
  ...Object.keys({ ...ollamaChatSchema.shape, ...ollamaGenerateSchema.shape, ...OLLAMA_FIELDS }),
  ...['truncate', 'shift']
])
const KNOWN_OPTIONS: ReadonlySet<string> = new Set([
  ...Object.keys({ ...options.shape, ...OLLAMA_OPTIONS }),
  ...['mirostat_tau', 'mirostat_eta', 'penalize_newline']
])
const KNOWN_OF_MESSAGES: ReadonlySet<string> = new Set([...Object.keys(message.shape), 'images'])
/** Where and how the model runs is for the mesh to say. */
const RUN: ReadonlySet<string> = new Set(RUN_OPTIONS)

export interface OllamaRequest extends Omit<Asked, 'request'> {
  /** As the client has called it. */
  name: string
  model: string
  /** Null: the client only wants the model to be loaded as `load` says, or, where its `keepAliveMs` is 0, to be let go. */
  request: GenerateRequest | null
  load: LoadOptions
}

/** Body of Ollama's /api/chat or /api/generate in the node's words. */
export function parseOllama(kind: OllamaKind, body: unknown): OllamaRequest {
  refuseUndoneOfOllama(body)
  const given = fieldOf(body, 'options')
  const unknown = [
    ...unknownFields(body, KNOWN),
    ...unknownWithin(fieldOf(body, 'messages'), KNOWN_OF_MESSAGES, 'messages'),
    ...unknownFields(given, new Set([...KNOWN_OPTIONS, ...RUN]), 'options.'),
    ...Object.keys(given ?? {})
      .filter(name => RUN.has(name))
      .map(name => `options.${name}`)
  ]
  const { parsed, input } = read(kind, body)
  const { model } = parsed
  const ignored = [...unknown, ...undoneOfSampling(parsed.options ?? {}, 'options.')]
  const maxTokens = parsed.options?.num_predict
  const keepAliveMs = parsed.keep_alive ?? undefined
  const { standby: _, ...placed } = meshOptions(parsed)
  const request = defined({
    model,
    input,
    temperature: parsed.options?.temperature,
    topP: parsed.options?.top_p,
    seed: parsed.options?.seed,
    maxTokens,
    stop: parsed.options?.stop,
    ...ollamaSampling(parsed.options ?? {}),
    constraint: parsed.format,
    ...meshOptions(parsed),
    keepAliveMs
  }) as unknown as GenerateRequest
  return {
    name: (body as { model: string }).model,
    model,
    stream: parsed.stream !== false,
    request: input === null ? null : request,
    load: defined({ ...placed, maxTokens, keepAliveMs }),
    ignored
  }
}

function read(kind: OllamaKind, body: unknown) {
  if (kind === 'chat') {
    const parsed = parse(ollamaChatSchema, body)
    return { parsed, input: chatInput(parsed) }
  }
  const parsed = parse(ollamaGenerateSchema, body)
  return { parsed, input: generateInput(parsed) }
}

function chatInput({
  messages,
  tools,
  tool_choice: choice,
  think
}: z.infer<typeof ollamaChatSchema>): ChatInput | null {
  if (messages === undefined || messages === null || messages.length === 0) return null
  return {
    kind: 'chat',
    messages: turnsOf(messages),
    ...(tools && tools.length > 0 && choice !== 'none' && { tools: tools.map(definitionOf) }),
    ...(think !== undefined && think !== null && { thinking: think }),
    split: true
  }
}

function generateInput(parsed: z.infer<typeof ollamaGenerateSchema>): GenerateRequest['input'] | null {
  const { prompt, system, raw, think } = parsed
  if (prompt === undefined || prompt === null || prompt === '') return null
  if (raw === true) return { kind: 'raw', text: prompt }
  const before = system === undefined || system === null ? [] : [{ role: 'system', content: system }]
  return {
    kind: 'chat',
    messages: [...before, { role: 'user', content: prompt }],
    ...(think !== undefined && think !== null && { thinking: think }),
    split: true
  }
}

/** Ollama's calls have no ids in most clients: results follow them in their order. */
function turnsOf(messages: readonly z.infer<typeof message>[]): ChatMessage[] {
  const open: { id: string; name: string }[] = []
  return messages.map((said, at) => {
    const toolCalls = (said.tool_calls ?? []).map(({ id, function: { name, arguments: given } }, index) => ({
      id: id ?? `call_${at}_${index}`,
      name,
      arguments: JSON.stringify(given ?? {})
    }))
    open.push(...toolCalls)
    const turn: ChatMessage = {
      role: said.role,
      content: said.content ?? '',
      ...(said.thinking && { reasoning: said.thinking }),
      ...(toolCalls.length > 0 && { toolCalls })
    }
    if (said.role !== 'tool') return turn
    const wanted = said.tool_call_id ?? undefined
    const answered = open.findIndex(({ id }) => wanted === undefined || id === wanted)
    const [found] = answered < 0 ? [] : open.splice(answered, 1)
    const name = said.tool_name ?? said.name ?? found?.name
    const toolCallId = wanted ?? found?.id
    return { ...turn, ...(toolCallId !== undefined && { toolCallId }), ...(name !== undefined && { name }) }
  })
}

function definitionOf({ function: given }: z.infer<typeof tool>): NonNullable<ChatInput['tools']>[number] {
  const { name, description, parameters } = given
  return { name, ...(description && { description }), ...(parameters && { parameters }) }
}
