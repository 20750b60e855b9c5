import { RequestError } from '../errors.ts'
import { FORM_FIELDS } from './forms.ts'
import { fieldOf } from './unknown-fields.ts'

/** Whether a value of a field asks for nothing: the answer is the same without it. */
type IsNeutral = (value: unknown) => boolean

/** Fields that are known to change an answer and are not done yet, each with the values that ask for nothing. */
export type UndoneFields = Readonly<Record<string, IsNeutral>>

const is =
  (...values: unknown[]): IsNeutral =>
  value =>
    values.includes(value)
const never: IsNeutral = () => false
const empty: IsNeutral = value =>
  typeof value === 'object' && value !== null && Object.keys(value).length === 0
const text: IsNeutral = value => value === '' || (Array.isArray(value) && value.every(is('text')))

/** Ollama's options for where and how a model is run. */
export const RUN_OPTIONS: readonly string[] = [
  ...['num_ctx', 'num_batch', 'num_gpu', 'main_gpu', 'num_thread', 'num_keep', 'numa', 'low_vram'],
  ...['use_mmap', 'use_mlock', 'f16_kv', 'vocab_only']
]
const runOptions: IsNeutral = value =>
  typeof value === 'object' && value !== null && Object.keys(value).every(is(...RUN_OPTIONS))

/** Sampling, as llama.cpp, vLLM, Ollama and Transformers call it. Details of what is off ask for nothing. */
const SAMPLING: UndoneFields = {
  typical_p: is(1),
  tfs_z: is(1),
  top_a: is(0),
  top_n_sigma: is(0, -1),
  dynatemp_range: is(0),
  mirostat: is(0),
  xtc_probability: is(0),
  dry_multiplier: is(0),
  length_penalty: is(1),
  use_beam_search: is(false)
}

/** What else is said of text that has to be of a form. */
const FORMS: UndoneFields = { guided_whitespace_pattern: is(''), grammar_lazy: is(false) }

/** An empty schema says that it is to be JSON. */
const saysNothing: IsNeutral = value =>
  value === '' || value === false || (Array.isArray(value) && value.length === 0)
const asText: IsNeutral = value =>
  typeof value === 'object' && value !== null && 'type' in value && value.type === 'text'

/** What other APIs say of an answer's form and of how many there are to be, where an API has no such field of its own. */
const OF_OTHERS: UndoneFields = {
  ...FORMS,
  ...Object.fromEntries(FORM_FIELDS.map(name => [name, saysNothing])),
  structured_outputs: empty,
  response_format: asText,
  n: is(1),
  best_of: is(1)
}

/** Where an answer begins and ends, and what may be drawn. */
const BOUNDS: UndoneFields = {
  n_predict: is(-1),
  num_predict: is(-1),
  max_new_tokens: is(-1),
  bad_words: empty,
  allowed_token_ids: empty,
  truncate_prompt_tokens: is(-1),
  include_stop_str_in_output: is(false),
  skip_special_tokens: is(true),
  prompt_logprobs: is(0, false),
  options: runOptions,
  lora: empty
}

/** What becomes of the conversation before the model reads it. */
const CONVERSATION: UndoneFields = {
  functions: empty,
  function_call: is('none', 'auto'),
  modalities: text,
  audio: never,
  web_search_options: never,
  system: is(''),
  chat_template: is(''),
  reasoning: empty,
  add_generation_prompt: is(true),
  continue_final_message: is(false),
  best_of: is(1),
  format: is('')
}

const MESSAGE: UndoneFields = { function_call: never, audio: never, images: empty }

/** Bodies of /v1/completions. */
export const COMPLETION_FIELDS: UndoneFields = { ...SAMPLING, ...FORMS, ...BOUNDS }
/** Bodies of /v1/chat/completions. */
export const CHAT_FIELDS: UndoneFields = { ...COMPLETION_FIELDS, ...CONVERSATION }
/** Bodies of /v1/responses. */
export const RESPONSES_FIELDS: UndoneFields = OF_OTHERS
/** Bodies of /v1/messages. */
export const MESSAGES_FIELDS: UndoneFields = OF_OTHERS
/** Bodies of Ollama's /api/chat and /api/generate, and their options. */
export const OLLAMA_FIELDS: UndoneFields = {
  ...OF_OTHERS,
  // Of `none` the conversation has no tools.
  tool_choice: is('auto', 'none'),
  images: empty,
  context: empty,
  template: is(''),
  logprobs: is(false),
  top_logprobs: is(0)
}
export const OLLAMA_OPTIONS: UndoneFields = { ...SAMPLING, ...OF_OTHERS }

/** What some clients send to any server and no answer of this one hangs on; details of what is off. */
export const HARMLESS_FIELDS: readonly string[] = [
  ...['metadata', 'store', 'service_tier', 'safety_identifier', 'prompt_cache_retention', 'verbosity'],
  ...[
    'prediction',
    'cache_prompt',
    'id_slot',
    'slot_id',
    'keep_alive',
    'max_retries',
    'priority',
    'request_id'
  ],
  ...['mirostat_tau', 'mirostat_eta', 'xtc_threshold', 'dynatemp_exponent'],
  ...['dry_base', 'dry_allowed_length', 'dry_penalty_last_n', 'dry_sequence_breakers', 'samplers', 'n_probs'],
  ...['n_keep', 'return_tokens', 'timings_per_token', 'response_fields', 'reasoning_format'],
  ...[
    'spaces_between_special_tokens',
    'add_special_tokens',
    'return_token_ids',
    'return_tokens_as_token_ids'
  ],
  ...[
    'parse_tool_calls',
    'post_sampling_probs',
    'separate_reasoning',
    'stream_reasoning',
    'guided_decoding_backend'
  ]
]

/**
 * Refuses what would change an answer and is not done: fields of a body, and those of its messages.
 *
 * @throws {RequestError} naming the first of them
 */
export function refuseUndone(body: unknown, undone: UndoneFields): void {
  refuse(body, undone)
  refuseOfMessages(body)
}

/** @throws {RequestError} naming the first field of an Ollama request that is not done */
export function refuseUndoneOfOllama(body: unknown): void {
  refuseUndone(body, OLLAMA_FIELDS)
  refuse(fieldOf(body, 'options'), OLLAMA_OPTIONS, 'options.')
}

function refuseOfMessages(body: unknown): void {
  const messages = fieldOf(body, 'messages')
  if (!Array.isArray(messages)) return
  for (const [at, message] of messages.entries()) refuse(message, MESSAGE, `messages.${at}.`)
}

/** Only what is an object can have fields that are not done; whatever else is wrong with a body is said of it later. */
function refuse(body: unknown, undone: UndoneFields, path = ''): void {
  if (typeof body !== 'object' || body === null) return
  for (const [name, value] of Object.entries(body)) {
    if (value === null || !Object.hasOwn(undone, name) || undone[name]!(value)) continue
    const field = `${path}${name}`
    throw new RequestError(`${field}: this would change the answer and is not supported; leave it out`, field)
  }
}
