import type { Sampling } from '../../../models/runtime/sampler.ts'

/**
 * The sampling of a session that is opened: with what is known of the reply, where what is drawn depends on it. No more
 * leaves the source than is counted; of the prompt nothing but its length does.
 */
export function samplingFrom(
  sampling: Sampling,
  { prompt, known }: { prompt: readonly number[]; known: readonly number[] }
): Sampling {
  const { penalties, minTokens = 0 } = sampling
  if (penalties === undefined && minTokens === 0) return sampling
  const window = penalties?.window ?? 0
  const lastIds = window === 0 ? [] : known.slice(-window)
  return { ...sampling, reply: { promptTokens: prompt.length, knownTokens: known.length, lastIds } }
}
