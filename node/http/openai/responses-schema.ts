import * as z from 'zod'
import type { ChatMessage, GenerateRequest } from '../../api.ts'
import type { Asked } from '../answer.ts'
import {
  defined,
  effort,
  jsonObject,
  MAX_MESSAGES,
  MAX_TOOLS,
  meshFields,
  meshOptions,
  modelOrDefault,
  parse,
  scope,
  seed,
  text,
  thinkingOf,
  tokenLimit,
  toolName
} from '../fields.ts'
import { samplingFields, samplingOptions, undoneOfSampling } from '../sampling-fields.ts'
import { RESPONSES_FIELDS, refuseUndone } from '../undone-fields.ts'
import { unknownFields } from '../unknown-fields.ts'
import { withoutOtherTools } from './other-tools.ts'
import { constraintOf, textFormat } from './response-format.ts'

const MAX_PARTS = 1024

/** What would change an answer and is not done. */
const refused = (what: string) => z.null(`${what} is not supported; leave it out`).optional()

const parts = z
  .array(
    z.object({
      type: z.enum(
        ['input_text', 'output_text', 'text', 'summary_text', 'reasoning_text'],
        'only text parts are understood'
      ),
      text
    })
  )
  .max(MAX_PARTS)
const content = z.union([text, parts])
const callId = z.string().min(1).max(256)

const message = z.object({
  type: z.literal('message').optional(),
  role: z.enum(['system', 'developer', 'user', 'assistant']),
  content
})
const item = z.union(
  [
    message,
    z.object({ type: z.literal('function_call'), call_id: callId, name: toolName, arguments: text }),
    z.object({ type: z.literal('function_call_output'), call_id: callId, output: content }),
    z.object({ type: z.literal('reasoning'), summary: parts.optional(), content: parts.nullish() })
  ],
  'only messages of text, calls of functions, their outputs and reasoning are understood'
)
type Item = z.infer<typeof item>

const tool = z.object({
  type: z.literal('function', 'only functions are supported as tools'),
  name: toolName,
  description: text.nullish(),
  parameters: jsonObject.nullish(),
  strict: z.boolean().nullish()
})

export const responsesSchema = z.object({
  model: modelOrDefault,
  input: z.union([text, z.array(item).min(1).max(MAX_MESSAGES)]),
  instructions: text.nullish(),
  max_output_tokens: tokenLimit,
  temperature: z.number().min(0).max(2).nullish(),
  top_p: z.number().min(0).max(1).nullish(),
  seed,
  ...samplingFields,
  stream: z.boolean().nullish(),
  tools: z.array(tool).max(MAX_TOOLS).nullish(),
  tool_choice: z
    .union(
      [z.enum(['auto', 'none', 'required']), z.object({ type: z.literal('function'), name: toolName })],
      'give "auto", "none", "required", or a function by its name'
    )
    .nullish(),
  parallel_tool_calls: z.boolean().nullish(),
  reasoning: z.object({ effort: effort.nullish() }).nullish(),
  user: scope,
  prompt_cache_key: scope,
  ...meshFields,
  // What would change an answer is refused instead of passed over in silence.
  text: z.object({ format: textFormat.nullish() }).nullish(),
  previous_response_id: refused('previous_response_id: no answers are kept, so it'),
  conversation: refused('conversation: no answers are kept, so it'),
  prompt: refused('prompt'),
  background: z.literal(false, 'background answers are not supported').nullish(),
  truncation: z.literal('disabled', 'no input is shortened here').nullish(),
  top_logprobs: z.literal(0, 'log-probabilities are not supported here').nullish()
})

/** Read or refused above, or without effect on an answer: nothing is stored, whatever `store` says. */
const KNOWN: ReadonlySet<string> = new Set([
  ...Object.keys({ ...responsesSchema.shape, ...RESPONSES_FIELDS }),
  ...[
    'store',
    'include',
    'metadata',
    'service_tier',
    'safety_identifier',
    'stream_options',
    'max_tool_calls'
  ],
  ...['prompt_cache_retention', 'client_metadata']
])

/** A request of the responses API, with what an answer repeats of it. */
export interface ResponsesRequest extends Asked {
  repeated: Record<string, unknown>
}

/** Body of /v1/responses. */
export function parseResponses(body: unknown): ResponsesRequest {
  refuseUndone(body, RESPONSES_FIELDS)
  const unknown = unknownFields(body, KNOWN)
  const { body: offered, leftOut } = withoutOtherTools(body)
  const parsed = parse(responsesSchema, offered)
  // Arguments of calls are the model's own: nothing holds them to the schema.
  const ignored = [
    ...unknown,
    ...leftOut,
    ...undoneOfSampling(parsed),
    ...(parsed.tools?.some(({ strict }) => strict === true) ? ['tools.strict'] : [])
  ]
  const { instructions, tools, tool_choice: choice, parallel_tool_calls: parallel } = parsed
  const thinking = thinkingOf(parsed.reasoning?.effort)
  const before: ChatMessage[] = instructions ? [{ role: 'system', content: instructions }] : []
  const said: ChatMessage[] =
    typeof parsed.input === 'string' ? [{ role: 'user', content: parsed.input }] : turnsOf(parsed.input)
  const request = defined({
    model: parsed.model,
    input: {
      kind: 'chat',
      messages: [...before, ...said],
      ...(tools && tools.length > 0 && choice !== 'none' && { tools: tools.map(definitionOf) }),
      ...(choice === 'required' && { choice }),
      ...(typeof choice === 'object' && choice !== null && { choice: { name: choice.name } }),
      ...(parallel === false && { parallel }),
      ...(thinking !== undefined && { thinking }),
      split: true
    },
    maxTokens: parsed.max_output_tokens,
    temperature: parsed.temperature,
    topP: parsed.top_p,
    seed: parsed.seed,
    ...samplingOptions(parsed),
    constraint: constraintOf(parsed.text?.format),
    ...meshOptions(parsed),
    conversation: parsed.prompt_cache_key ?? parsed.user
  }) as unknown as GenerateRequest
  const repeated = {
    instructions: instructions ?? null,
    max_output_tokens: parsed.max_output_tokens ?? null,
    temperature: parsed.temperature ?? null,
    top_p: parsed.top_p ?? null,
    text: { format: parsed.text?.format ?? { type: 'text' } },
    tools: tools ?? [],
    tool_choice: choice ?? 'auto',
    parallel_tool_calls: parallel ?? true,
    reasoning: { effort: parsed.reasoning?.effort ?? null, summary: null }
  }
  return { request, stream: parsed.stream === true, ignored, repeated }
}

function definitionOf({ name, description, parameters }: z.infer<typeof tool>) {
  return { name, ...(description && { description }), ...(parameters && { parameters }) }
}

/** What an assistant thought, said and called one after the other is one turn. */
function turnsOf(items: readonly Item[]): ChatMessage[] {
  const turns: ChatMessage[] = []
  const names = new Map<string, string>()
  const assistant = (): ChatMessage => {
    const last = turns.at(-1)
    if (last?.role === 'assistant') return last
    const turn = { role: 'assistant', content: '' }
    turns.push(turn)
    return turn
  }
  for (const said of items) {
    if (said.type === 'function_call') {
      names.set(said.call_id, said.name)
      ;(assistant().toolCalls ??= []).push({
        id: said.call_id,
        name: said.name,
        arguments: said.arguments
      })
    } else if (said.type === 'function_call_output') {
      const name = names.get(said.call_id)
      const result = { role: 'tool', content: textOf(said.output), toolCallId: said.call_id }
      turns.push({ ...result, ...(name !== undefined && { name }) })
    } else if (said.type === 'reasoning') {
      const thought = textOf(said.content ?? said.summary ?? [])
      const turn = { role: 'assistant', content: '' }
      turns.push(thought === '' ? turn : { ...turn, reasoning: thought })
    } else if (said.role === 'assistant') {
      const last = turns.at(-1)
      const isBegun = last?.role === 'assistant' && last.content === '' && last.toolCalls === undefined
      if (isBegun) last.content = textOf(said.content)
      else turns.push({ role: 'assistant', content: textOf(said.content) })
    } else turns.push({ role: said.role, content: textOf(said.content) })
  }
  return turns
}

function textOf(given: z.infer<typeof content>): string {
  return typeof given === 'string' ? given : given.map(part => part.text).join('')
}
