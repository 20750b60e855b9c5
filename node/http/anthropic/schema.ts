import * as z from 'zod'
import type { ChatMessage, Constraint, GenerateRequest, ToolDefinition } from '../../api.ts'
import { RequestError } from '../../errors.ts'
import type { Asked } from '../answer.ts'
import {
  defined,
  jsonObject,
  MAX_MESSAGES,
  MAX_SCOPE_LENGTH,
  MAX_TOOLS,
  meshFields,
  meshOptions,
  parse,
  seed,
  stops,
  text,
  tokenLimit,
  toolName
} from '../fields.ts'
import { samplingFields, samplingOptions, undoneOfSampling } from '../sampling-fields.ts'
import { MESSAGES_FIELDS, refuseUndone } from '../undone-fields.ts'
import { fieldOf, unknownFields, unknownWithin } from '../unknown-fields.ts'

const MAX_BLOCKS = 4096

/** What would change an answer and is not done. */
const refused = (what: string) => z.null(`${what} is not supported; leave it out`).optional()
const textBlock = z.object({ type: z.literal('text'), text })
const resultBlocks = z.array(textBlock, 'only text is understood in results of tools').max(MAX_BLOCKS)
const block = z.discriminatedUnion(
  'type',
  [
    textBlock,
    z.object({ type: z.literal('thinking'), thinking: text }),
    z.object({ type: z.literal('redacted_thinking') }),
    z.object({
      type: z.literal('tool_use'),
      id: z.string().max(256),
      name: toolName,
      input: jsonObject
    }),
    z.object({
      type: z.literal('tool_result'),
      tool_use_id: z.string().max(256),
      content: z.union([text, resultBlocks]).optional(),
      is_error: z.boolean().optional()
    })
  ],
  'only text, thoughts, and calls of tools with their results are understood'
)
type Block = z.infer<typeof block>

const message = z.object({
  role: z.enum(['user', 'assistant', 'system']),
  content: z.union([text, z.array(block).max(MAX_BLOCKS)])
})
const tool = z.object({
  type: z.literal('custom', 'only tools of the client are supported, none of a server').nullish(),
  name: toolName,
  description: text.optional(),
  input_schema: jsonObject,
  strict: z.boolean().nullish()
})
const disable_parallel_tool_use = z.boolean().optional()
const toolChoice = z.discriminatedUnion(
  'type',
  [
    z.object({ type: z.enum(['auto', 'none', 'any']), disable_parallel_tool_use }),
    z.object({ type: z.literal('tool'), name: toolName, disable_parallel_tool_use })
  ],
  'give "auto", "any", "none", or a tool by its name'
)

const format = z.object({
  type: z.literal('json_schema', 'give "json_schema"'),
  schema: jsonObject
})

const prompt = {
  model: z.string().min(1).max(512),
  messages: z.array(message).min(1).max(MAX_MESSAGES),
  system: z.union([text, z.array(textBlock).max(MAX_BLOCKS)]).nullish(),
  tools: z.array(tool).max(MAX_TOOLS).nullish(),
  tool_choice: toolChoice.nullish(),
  thinking: z.object({ type: z.enum(['enabled', 'disabled', 'adaptive']) }).nullish(),
  output_config: z
    .object({
      format: format.nullish(),
      effort: z.enum(['low', 'medium', 'high', 'xhigh', 'max']).nullish()
    })
    .nullish()
}

export const messagesSchema = z.object({
  ...prompt,
  max_tokens: tokenLimit,
  stream: z.boolean().nullish(),
  stop_sequences: stops.nullish(),
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  seed,
  ...samplingFields,
  metadata: z.object({ user_id: z.string().max(MAX_SCOPE_LENGTH).nullish() }).nullish(),
  ...meshFields,
  // The name of `output_config.format` before it had that one.
  output_format: format.nullish(),
  // What would change an answer is refused instead of passed over in silence.
  mcp_servers: z.array(z.never(), 'servers of tools are not supported').max(0).nullish(),
  container: refused('container')
})
export const countSchema = z.object(prompt)

/** Read or refused above, or without effect on an answer. */
const KNOWN: ReadonlySet<string> = new Set([
  ...Object.keys({ ...messagesSchema.shape, ...MESSAGES_FIELDS }),
  // What would only be cleared from a conversation stays in it.
  ...['context_management', 'service_tier', 'inference_geo', 'betas', 'cache_control', 'speed']
])

/** Body of /v1/messages. */
export function parseMessages(body: unknown): Asked {
  refuseUndone(body, MESSAGES_FIELDS)
  const unknown = [
    ...unknownFields(body, KNOWN),
    ...unknownWithin(fieldOf(body, 'messages'), new Set(Object.keys(message.shape)), 'messages'),
    ...unknownWithin([fieldOf(body, 'thinking')], new Set(['type']), 'thinking'),
    ...unknownWithin([fieldOf(body, 'output_config')], new Set(['format', 'effort']), 'output_config')
  ]
  const parsed = parse(messagesSchema, body)
  const ignored = [
    ...unknown,
    ...undoneOfSampling(parsed),
    // How hard it thinks is said to a model that thinks.
    ...(parsed.output_config?.effort && !thinks(parsed) ? ['output_config.effort'] : []),
    // Arguments of calls are the model's own, unless one has to be made.
    ...(parsed.tools?.some(({ strict }) => strict === true) ? ['tools.strict'] : [])
  ]
  const { model, stop_sequences: stop, metadata } = parsed
  const request = defined({
    model,
    input: inputOf(parsed),
    maxTokens: parsed.max_tokens,
    temperature: parsed.temperature,
    topP: parsed.top_p,
    seed: parsed.seed,
    stop,
    ...samplingOptions(parsed),
    constraint: constraintOf(parsed),
    ...meshOptions(parsed),
    conversation: metadata?.user_id
  }) as unknown as GenerateRequest
  return { request, stream: parsed.stream === true, ignored }
}

/** Body of /v1/messages/count_tokens. */
export function parseCount(body: unknown): Pick<GenerateRequest, 'model' | 'input'> {
  unknownFields(body, KNOWN)
  const parsed = parse(countSchema, body)
  return { model: parsed.model, input: inputOf(parsed) }
}

function inputOf(parsed: z.infer<typeof countSchema>): GenerateRequest['input'] {
  const { system, messages, tools, tool_choice: choice, thinking } = parsed
  const before: ChatMessage[] =
    system === undefined || system === null || system.length === 0
      ? []
      : [{ role: 'system', content: textOf(system) }]
  const names = new Map<string, string>()
  return {
    kind: 'chat',
    messages: [...before, ...messages.flatMap(({ role, content }) => turnsOf(role, content, names))],
    ...(tools && choice?.type !== 'none' && { tools: tools.map(definition) }),
    ...(thinking && { thinking: thinks(parsed) && (effortOf(parsed) ?? true) }),
    ...(choice?.type === 'any' && { choice: 'required' as const }),
    ...(choice?.type === 'tool' && { choice: { name: choice.name } }),
    ...(choice?.disable_parallel_tool_use === true && { parallel: false }),
    split: true
  }
}

function constraintOf({
  output_config: config,
  output_format: older
}: z.infer<typeof messagesSchema>): Constraint | undefined {
  const given = config?.format ?? older
  if (config?.format && older) {
    const message = 'output_format: output_config.format says already what the answer has to look like'
    throw new RequestError(message, 'output_format')
  }
  return given ? { kind: 'schema', schema: given.schema } : undefined
}

function thinks({ thinking }: z.infer<typeof countSchema>): boolean {
  return thinking !== undefined && thinking !== null && thinking.type !== 'disabled'
}

function effortOf({
  output_config: config
}: z.infer<typeof countSchema>): 'low' | 'medium' | 'high' | undefined {
  const effort = config?.effort ?? undefined
  return effort === 'xhigh' || effort === 'max' ? 'high' : effort
}

function definition({ name, description, input_schema }: z.infer<typeof tool>): ToolDefinition {
  return { name, ...(description !== undefined && { description }), parameters: input_schema }
}

/** A message's turns: each result of a tool is one of its own, before what else a user says. */
function turnsOf(role: string, content: string | Block[], names: Map<string, string>): ChatMessage[] {
  if (typeof content === 'string') return [{ role, content }]
  const results: ChatMessage[] = []
  const turn: ChatMessage = { role, content: '' }
  for (const part of content) {
    switch (part.type) {
      case 'text':
        turn.content += part.text
        break
      case 'thinking':
        turn.reasoning = (turn.reasoning ?? '') + part.thinking
        break
      case 'tool_use':
        if (role !== 'assistant') throw new RequestError('only an assistant calls tools', 'messages')
        names.set(part.id, part.name)
        ;(turn.toolCalls ??= []).push({
          id: part.id,
          name: part.name,
          arguments: JSON.stringify(part.input)
        })
        break
      case 'tool_result': {
        const said = textOf(part.content ?? '')
        const name = names.get(part.tool_use_id)
        results.push({
          role: 'tool',
          content: part.is_error === true ? `Error: ${said}` : said,
          toolCallId: part.tool_use_id,
          ...(name !== undefined && { name })
        })
        break
      }
      default:
      // A thought that nobody can read.
    }
  }
  const saysSomething = turn.content !== '' || turn.toolCalls !== undefined || results.length === 0
  return saysSomething ? [...results, turn] : results
}

function textOf(content: string | { text: string }[]): string {
  return typeof content === 'string' ? content : content.map(({ text }) => text).join('')
}
