import type { ReplyHistory } from './reply-history.ts'
import type { Penalties, Sampling } from './sampler.ts'

/**
 * The logits that a token is drawn from, in float64 where anything is to be changed, else `logits` itself. In this order,
 * that of Transformers: what the client adds to some; penalties; no end before the reply has its least tokens.
 *
 * @param reply undefined where nothing depends on it
 */
export function adjustedLogits(
  logits: Float32Array,
  { logitBias = [], penalties, minTokens = 0, ends = [] }: Sampling,
  position: number,
  reply: ReplyHistory | undefined
): Float32Array | Float64Array {
  const counts = penalties && reply?.countsAt(position)
  const isTooShort = reply !== undefined && reply.lengthAt(position) < minTokens
  const forbidden = isTooShort ? ends : []
  if (logitBias.length === 0 && (counts === undefined || counts.size === 0) && forbidden.length === 0) {
    return logits
  }
  const adjusted = Float64Array.from(logits)
  for (const [id, bias] of logitBias) adjusted[id]! += bias
  if (penalties !== undefined)
    for (const [id, count] of counts ?? []) penalize(adjusted, id, count, penalties)
  for (const id of forbidden) adjusted[id] = Number.NEGATIVE_INFINITY
  return adjusted
}

/**
 * As in Transformers, vLLM and llama.cpp: a logit is divided by the repetition penalty, or multiplied where it is negative
 * (https://arxiv.org/abs/1909.05858, section 4.1, mended); then OpenAI's two are taken off.
 */
function penalize(logits: Float64Array, id: number, count: number, penalties: Penalties): void {
  const { repetition, frequency, presence } = penalties
  const logit = logits[id]!
  logits[id] = (logit > 0 ? logit / repetition : logit * repetition) - count * frequency - presence
}
