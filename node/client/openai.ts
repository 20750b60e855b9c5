import type { GenerateResult, Objective, Privacy, Speculate } from '../api.ts'

/** What chat and plain completions have in common; absent numbers take the node's defaults. */
interface CompletionSettings {
  /** Name or id of a model; absent: the default model. */
  model?: string
  max_tokens?: number
  temperature?: number
  top_p?: number
  /** 0 and -1: all. */
  top_k?: number
  min_p?: number
  /** Penalties count tokens of the reply; see GenerateRequest. */
  repetition_penalty?: number
  frequency_penalty?: number
  presence_penalty?: number
  /** So many last tokens count. @default 4096, the most */
  repeat_last_n?: number
  /** Added to logits, by token id. */
  logit_bias?: Record<string, number>
  /** The next choice has the next seed. */
  seed?: number
  /** Choices of each prompt. @default 1 */
  n?: number
  stop?: string | string[]
  stop_token_ids?: number[]
  min_tokens?: number
  ignore_eos?: boolean
  objective?: Objective
  privacy?: Privacy
  /** Whether tokens are guessed ahead, which changes none of them. @default what the node was started with */
  speculate?: Speculate
  /** Name or id of the model that drafts. */
  draft?: string
  /** As in GenerateRequest. */
  exact?: boolean
  /** As in GenerateRequest. */
  standby?: boolean
  /** The conversation, or all that one client asks, whose KV caches the prompt may go on from, as far as both begin alike. */
  prompt_cache_key?: string
}

/** A request of OpenAI's chat completions, as far as a mesh answers them. */
export interface ChatRequest extends CompletionSettings {
  messages: ChatTurn[]
  tools?: ChatTool[]
  /** @default 'auto' */
  tool_choice?: 'auto' | 'none' | 'required' | { type: 'function'; function: { name: string } }
  /** False: the answer ends behind its first call. */
  parallel_tool_calls?: boolean
  /** How hard the model is to think, where its template can say so. */
  reasoning_effort?: 'none' | 'minimal' | 'low' | 'medium' | 'high' | 'xhigh'
  /** Variables for the model's chat template. */
  chat_template_kwargs?: Record<string, unknown>
  logprobs?: boolean
  /** Alternatives to each token, 0 to 20. */
  top_logprobs?: number
}

/** A message; `content` may be null beside calls of tools. */
export interface ChatTurn {
  role: 'system' | 'developer' | 'user' | 'assistant' | 'tool' | 'function'
  content: string | null
  reasoning_content?: string
  tool_calls?: ChatCall[]
  /** In a tool's turn: the call that it answers. */
  tool_call_id?: string
}

/** A function that the model may call; `parameters` is a JSON schema. */
export interface ChatTool {
  type: 'function'
  function: { name: string; description?: string; parameters?: Record<string, unknown> }
}

/** A call of a function; `arguments` is an object of JSON, as text. */
export interface ChatCall {
  id: string
  type: 'function'
  function: { name: string; arguments: string }
}

/** A request of OpenAI's completions: prompts as they are, without a chat template, as texts or token ids. */
export interface CompletionRequest extends CompletionSettings {
  prompt: string | string[] | number[] | number[][]
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
  | 'plan'
  | 'predicted'
  | 'measured'
  | 'guesses'
  | 'ttftMs'
  | 'tpotMs'
  | 'recoveries'
  | 'moves'
  | 'stretches'
  | 'otherClass'
  | 'exact'
  | 'standby'
  | 'error'
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
    message: {
      role: 'assistant'
      /** Null where there are calls and no text. */
      content: string | null
      refusal: null
      reasoning_content?: string
      tool_calls?: ChatCall[]
    }
    logprobs: ChatLogprobs | null
    finish_reason: FinishReason | 'tool_calls'
  }[]
  usage: Usage
  edgeshard: AnswerDetails
}

/** A piece of a chat completion. The last one has no choices, but `usage` and `edgeshard`. */
export interface ChatChunk extends Envelope {
  choices: {
    index: number
    delta: {
      role?: 'assistant'
      content?: string
      reasoning_content?: string
      /** A call begins with id and name; pieces of its arguments follow under its index. */
      tool_calls?: { index: number; id?: string; function: { name?: string; arguments: string } }[]
    }
    logprobs: ChatLogprobs | null
    finish_reason: FinishReason | 'tool_calls' | null
  }[]
  /** Null in all chunks but the last. */
  usage?: Usage | null
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
  /** Null in all chunks but the last. */
  usage?: Usage | null
  edgeshard?: AnswerDetails
}
