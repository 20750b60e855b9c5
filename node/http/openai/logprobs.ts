import type { TokenLogprob } from '../../api.ts'

type Json = Record<string, unknown>

interface LoggedToken {
  id: number
  logprob: number
  bytes?: number[]
}

/** Log-probabilities as chat completions have them. */
export function chatLogprobs(logprobs: readonly TokenLogprob[]): Json {
  const content = logprobs.map(entry => ({ ...chatLogprob(entry), top_logprobs: entry.top.map(chatLogprob) }))
  return { content, refusal: null }
}

/** The same as completions have them; offsets are characters of this text. */
export function completionLogprobs(logprobs: readonly TokenLogprob[]): Json {
  let offset = 0
  const offsets = logprobs.map(entry => {
    const at = offset
    offset += tokenText(entry).length
    return at
  })
  return {
    tokens: logprobs.map(tokenText),
    token_logprobs: logprobs.map(({ logprob }) => logprob),
    top_logprobs: logprobs.map(({ top }) =>
      Object.fromEntries(top.map(entry => [tokenText(entry), entry.logprob]))
    ),
    text_offset: offsets
  }
}

function chatLogprob(entry: LoggedToken): Json {
  return { token: tokenText(entry), logprob: entry.logprob, bytes: entry.bytes ?? null }
}

/** A token that is part of a character has no text of its own; its id is shown where its bytes are not known. */
function tokenText({ id, bytes }: LoggedToken): string {
  return bytes === undefined ? `token_id:${id}` : Buffer.from(bytes).toString('utf8')
}
