import type { Sampling } from '../../../models/runtime/sampler.ts'

/** Prompt and reply as they are known when a session is opened. */
export interface KnownReply {
  prompt: readonly number[]
  known: readonly number[]
  /** Index in the reply of the first token that is drawn. @default behind what is known */
  drawnFrom?: number
}

/**
 * The sampling of a session that is opened: with what is known of the reply, where what is drawn depends on it. No more
 * leaves the source than is counted; of the prompt nothing but its length does.
 */
export function samplingFrom(
  sampling: Sampling,
  { prompt, known, drawnFrom = known.length }: KnownReply
): Sampling {
  const { penalties, minTokens = 0 } = sampling
  if (penalties === undefined && minTokens === 0) return sampling
  const lastIds = penalties === undefined ? [] : known.slice(Math.max(0, drawnFrom - penalties.window))
  return { ...sampling, reply: { promptTokens: prompt.length, knownTokens: known.length, lastIds } }
}
