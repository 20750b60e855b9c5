import type { GenerateResult, TokenLogprob } from '../api.ts'

/** The two forms of answers in OpenAI's API. */
export type AnswerKind = 'chat' | 'completion'

export interface AnswerHead {
  kind: AnswerKind
  id: string
  model: string
  /** Seconds since 1970. */
  created: number
}

type Json = Record<string, unknown>

/** A whole answer, as a client that does not stream gets it. */
export function wholeAnswer(head: AnswerHead, result: GenerateResult, logprobs: TokenLogprob[] | null): Json {
  const shared = { index: 0, logprobs: logprobsOf(head.kind, logprobs), finish_reason: result.finishReason }
  const choice =
    head.kind === 'chat'
      ? { ...shared, message: { role: 'assistant', content: result.text, refusal: null } }
      : { ...shared, text: result.text }
  const object = head.kind === 'chat' ? 'chat.completion' : 'text_completion'
  return {
    ...envelope(head, object),
    choices: [choice],
    usage: usageOf(result),
    edgeshard: detailsOf(result)
  }
}

/** The first piece of a chat stream names the role that speaks; completions have none. */
export function firstChunk(head: AnswerHead): Json | null {
  return head.kind === 'chat' ? chunk(head, { delta: { role: 'assistant', content: '' } }, null, null) : null
}

export function textChunk(head: AnswerHead, text: string, logprobs: TokenLogprob[] | null): Json {
  const content = head.kind === 'chat' ? { delta: { content: text } } : { text }
  return chunk(head, content, logprobs, null)
}

export function lastChunk(head: AnswerHead, result: GenerateResult): Json {
  const last = chunk(head, head.kind === 'chat' ? { delta: {} } : { text: '' }, null, result.finishReason)
  return result.error === undefined ? last : { ...last, edgeshard: detailsOf(result) }
}

/** The chunk behind the last one when a client asked for it: no choices, only figures. */
export function usageChunk(head: AnswerHead, result: GenerateResult): Json {
  return {
    ...envelope(head, chunkObject(head)),
    choices: [],
    usage: usageOf(result),
    edgeshard: detailsOf(result)
  }
}

function chunk(
  head: AnswerHead,
  content: Json,
  logprobs: TokenLogprob[] | null,
  finish: string | null
): Json {
  const choice = { index: 0, ...content, logprobs: logprobsOf(head.kind, logprobs), finish_reason: finish }
  return { ...envelope(head, chunkObject(head)), choices: [choice] }
}

function chunkObject({ kind }: AnswerHead): string {
  return kind === 'chat' ? 'chat.completion.chunk' : 'text_completion'
}

function envelope({ id, created, model }: AnswerHead, object: string): Json {
  return { id, object, created, model }
}

function usageOf({ promptTokens, cachedTokens, tokens }: GenerateResult): Json {
  return {
    prompt_tokens: promptTokens,
    completion_tokens: tokens.length,
    total_tokens: promptTokens + tokens.length,
    prompt_tokens_details: { cached_tokens: cachedTokens }
  }
}

/** What this project adds: clients of OpenAI's API pass over it. */
function detailsOf(result: GenerateResult): Json {
  const { plan, predicted, measured, ttftMs, tpotMs, recoveries, exact, error } = result
  const said = { ...(exact !== undefined && { exact }), ...(error !== undefined && { error }) }
  return { plan, predicted, measured, ttftMs, tpotMs, recoveries, ...said }
}

function logprobsOf(kind: AnswerKind, logprobs: TokenLogprob[] | null): Json | null {
  if (logprobs === null) return null
  if (kind === 'chat') {
    const content = logprobs.map(entry => ({
      ...chatLogprob(entry),
      top_logprobs: entry.top.map(chatLogprob)
    }))
    return { content, refusal: null }
  }
  return {
    tokens: logprobs.map(tokenText),
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) =>
      Object.fromEntries(top.map(entry => [tokenText(entry), entry.logprob]))
    )
  }
}

interface LoggedToken {
  id: number
  logprob: number
  bytes?: number[]
}

function chatLogprob(entry: LoggedToken): Json {
  return { token: tokenText(entry), logprob: entry.logprob, bytes: entry.bytes ?? null }
}

/** A token that is part of a character has no text of its own; its id is shown where its bytes are not known. */
function tokenText({ id, bytes }: LoggedToken): string {
  return bytes === undefined ? `token_id:${id}` : Buffer.from(bytes).toString('utf8')
}
