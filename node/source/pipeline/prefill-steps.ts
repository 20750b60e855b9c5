import { prefillChunks } from '../../../models/runtime/hidden.ts'

/** Tokens of one session that go in together, and where the first of them is. */
export interface PrefillStep {
  position: number
  tokens: number[]
}

/**
 * A prompt in chunks that follow each other. Tokens of the answer that are `known` go behind: in chunks as well where the
 * session is `exact`, else one by one as they were computed before, so that the KV cache is the same to the bit.
 *
 * @param options `fromToken`: where to begin; `keepTokens`: what some stages have already, which no chunk reaches across
 */
export function prefillSteps(
  asked: { prompt: readonly number[]; known: readonly number[]; exact?: boolean | undefined },
  { fromToken, keepTokens }: { fromToken: number; keepTokens: number }
): PrefillStep[] {
  const [prompt, known] = asked.exact ? [[...asked.prompt, ...asked.known], []] : [asked.prompt, asked.known]
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
