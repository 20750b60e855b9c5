import { prefillChunks } from '../../../models/runtime/hidden.ts'
import { ComputedRuns } from './computed-runs.ts'

/** Tokens of one session that go in together, and where the first of them is. */
export interface PrefillStep {
  position: number
  tokens: number[]
}

interface Asked {
  prompt: readonly number[]
  known: readonly number[]
  exact?: boolean | undefined
  /** Steps that the prompt begins with, where nothing of it is kept. @default none */
  runs?: ComputedRuns | undefined
}

/**
 * A prompt in chunks that follow each other. Tokens of the answer that are `known` go behind: in chunks as well where the
 * session is `exact`, else one by one as they were computed before, so that the KV cache is the same to the bit.
 *
 * @param options `fromToken`: where to begin; `keepTokens`: what some stages have already, which no chunk reaches across
 */
export function prefillSteps(
  { runs = new ComputedRuns(), ...asked }: Asked,
  { fromToken, keepTokens }: { fromToken: number; keepTokens: number }
): PrefillStep[] {
  const [prompt, known] = asked.exact ? [[...asked.prompt, ...asked.known], []] : [asked.prompt, asked.known]
  // What is exact is the same in whatever steps.
  const begun = asked.exact || keepTokens > 0 ? [] : runs.steps
  const begunTokens = begun.at(-1)?.[1] ?? 0
  const parts = [
    prompt.slice(fromToken, keepTokens),
    prompt.slice(Math.max(fromToken, keepTokens, begunTokens))
  ]
  const chunks = [
    ...begun.map(([start, end]) => prompt.slice(start, end)),
    ...parts.flatMap(part => prefillChunks(part.length).map(([start, end]) => part.slice(start, end)))
  ]
  const knownFrom = Math.max(0, fromToken - prompt.length)
  let position = fromToken
  return [...chunks, ...known.slice(knownFrom).map(token => [token])].map(tokens => {
    const step = { position, tokens }
    position += tokens.length
    return step
  })
}
