import { prefillChunks } from '../../../models/runtime/hidden.ts'

/** Tokens of one session that go in together, and where the first of them is. */
export interface PrefillStep {
  position: number
  tokens: number[]
}

/**
 * A prompt in chunks that follow each other. Tokens of the answer that are `known` go behind, one by one as they were
 * computed before: the KV cache is then the same to the bit.
 *
 * @param options `fromToken`: where to begin; `keepTokens`: what some stages have already, which no chunk reaches across
 */
export function prefillSteps(
  { prompt, known }: { prompt: readonly number[]; known: readonly number[] },
  { fromToken, keepTokens }: { fromToken: number; keepTokens: number }
): PrefillStep[] {
  const parts = [prompt.slice(fromToken, keepTokens), prompt.slice(Math.max(fromToken, keepTokens))]
  const chunks = parts.flatMap(part =>
    prefillChunks(part.length).map(([start, end]) => part.slice(start, end))
  )
  const knownFrom = Math.max(0, fromToken - prompt.length)
  let position = fromToken
  return [...chunks, ...known.slice(knownFrom).map(token => [token])].map(tokens => {
    const step = { position, tokens }
    position += tokens.length
    return step
  })
}
