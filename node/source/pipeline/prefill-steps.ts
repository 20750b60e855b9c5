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
  hasState?: boolean | undefined
  /** Steps that the prompt begins with, where nothing of it is kept. @default none */
  runs?: ComputedRuns | undefined
}

/**
 * The last chunk of a prompt has so many tokens at least where layers have states, of which one is kept before it: templates write
 * a turn's beginning otherwise once it is over, and what they change there are a few tokens at the prompt's end.
 */
const LEAST_LAST_TOKENS = 16

/**
 * A prompt in chunks that follow each other. Tokens of the answer that are `known` go behind: in chunks as well where the
 * session is `exact`, else one by one as they were computed before, so that the KV cache is the same to the bit. `hasState`: the
 * last chunk of a longer prompt is not a short one.
 *
 * @param options `fromToken`: where to begin; `keepTokens`: what some stages have already, which no chunk reaches across
 */
export function prefillSteps(
  { runs = new ComputedRuns(), ...asked }: Asked,
  { fromToken, keepTokens }: { fromToken: number; keepTokens: number }
): PrefillStep[] {
  const [prompt, known] = asked.exact ? [[...asked.prompt, ...asked.known], []] : [asked.prompt, asked.known]
  // What is exact is the same in whatever steps; which states are kept follows from the chunks of a prompt.
  const begun = asked.exact || asked.hasState || keepTokens > 0 ? [] : runs.steps
  const begunTokens = begun.at(-1)?.[1] ?? 0
  const parts = [
    prompt.slice(fromToken, keepTokens),
    prompt.slice(Math.max(fromToken, keepTokens, begunTokens))
  ]
  const chunks = [
    ...begun.map(([start, end]) => prompt.slice(start, end)),
    ...parts.flatMap(part => {
      const ranges = prefillChunks(part.length)
      return (asked.hasState ? lengthened(ranges) : ranges).map(([start, end]) => part.slice(start, end))
    })
  ]
  const knownFrom = Math.max(0, fromToken - prompt.length)
  let position = fromToken
  return [...chunks, ...known.slice(knownFrom).map(token => [token])].map(tokens => {
    const step = { position, tokens }
    position += tokens.length
    return step
  })
}

/** Chunks of which the last one takes from the one before what it lacks. */
function lengthened(
  ranges: readonly [start: number, end: number][]
): readonly [start: number, end: number][] {
  const [before, last] = ranges.slice(-2)
  if (before === undefined || last === undefined || last[1] - last[0] >= LEAST_LAST_TOKENS) return ranges
  const cut = last[1] - LEAST_LAST_TOKENS
  return [...ranges.slice(0, -2), [before[0], cut], [cut, last[1]]]
}
