import type { GenerateResult, Objective, Privacy, Speculate } from '../api.ts'

/** What chat and plain completions have in common; absent numbers take the node's defaults. */
interface CompletionSettings {
  /** Name or id of a model; absent: the default model. */
  model?: string
  max_tokens?: number
  temperature?: number
  top_p?: number
  seed?: number
  stop?: string | string[]
  objective?: Objective
  privacy?: Privacy
  /** Whether tokens are guessed ahead, which changes none of them. @default what the node was started with */
  speculate?: Speculate
  /** Name or id of the model that drafts. */
  draft?: string
  /** As in GenerateRequest. */
  exact?: boolean
  /** The conversation that this is a turn of: its next turn goes on from the KV cache of this one. */
  prompt_cache_key?: string
}

/** A request of OpenAI's chat completions, as far as a mesh answers them. */
export interface ChatRequest extends CompletionSettings {
  messages: { role: 'system' | 'developer' | 'user' | 'assistant' | 'tool' | 'function'; content: string }[]
  logprobs?: boolean
  /** Alternatives to each token, 0 to 20. */
  top_logprobs?: number
}

/** A request of OpenAI's completions: a prompt as it is, without a chat template. */
export interface CompletionRequest extends CompletionSettings {
  prompt: string
  logprobs?: number
}

export interface Usage {
  prompt_tokens: number
  completion_tokens: number
  total_tokens: number
  prompt_tokens_details: { cached_tokens: number }
}

/** Plan and times, which this project adds to OpenAI's answers. */
export type AnswerDetails = Pick<
  GenerateResult,
  'plan' | 'predicted' | 'measured' | 'guesses' | 'ttftMs' | 'tpotMs' | 'recoveries' | 'exact' | 'error'
>

interface Envelope {
  id: string
  object: string
  /** Seconds since 1970. */
  created: number
  model: string
}

type FinishReason = GenerateResult['finishReason']

export interface ChatLogprob {
  token: string
  logprob: number
  /** UTF-8 of the token, which may be part of a character. */
  bytes: number[] | null
}

export interface ChatLogprobs {
  content: (ChatLogprob & { top_logprobs: ChatLogprob[] })[]
}

export interface ChatCompletion extends Envelope {
  choices: {
    index: number
    message: { role: 'assistant'; content: string; refusal: null }
    logprobs: ChatLogprobs | null
    finish_reason: FinishReason
  }[]
  usage: Usage
  edgeshard: AnswerDetails
}

/** A piece of a chat completion. The last one has no choices, but `usage` and `edgeshard`. */
export interface ChatChunk extends Envelope {
  choices: {
    index: number
    delta: { role?: 'assistant'; content?: string }
    logprobs: ChatLogprobs | null
    finish_reason: FinishReason | null
  }[]
  usage?: Usage
  edgeshard?: AnswerDetails
}

export interface CompletionLogprobs {
  tokens: string[]
  token_logprobs: number[]
  top_logprobs: Record<string, number>[]
}

export interface Completion extends Envelope {
  choices: {
    index: number
    text: string
    logprobs: CompletionLogprobs | null
    finish_reason: FinishReason
  }[]
  usage: Usage
  edgeshard: AnswerDetails
}

/** A piece of a completion. The last one has no choices, but `usage` and `edgeshard`. */
export interface CompletionChunk extends Envelope {
  choices: {
    index: number
    text: string
    logprobs: CompletionLogprobs | null
    finish_reason: FinishReason | null
  }[]
  usage?: Usage
  edgeshard?: AnswerDetails
}
