import type { GenerateResult, Guesses, Predicted, Stretch } from './api.ts'

/** An answer that is over, and its tokens' number, as far as plans are held against it. */
export type Answered = Pick<
  GenerateResult,
  'plan' | 'predicted' | 'measured' | 'tpotMs' | 'stretches' | 'guesses'
> & { count: number }

/** The parts of an answer of `count` tokens, each with the plan that was in force: most answers have one. */
export function stretchesOf({
  plan,
  predicted,
  measured,
  tpotMs,
  stretches,
  count
}: Answered): readonly Stretch[] {
  return stretches ?? [{ plan, predicted, measured, tokens: count, tpotMs }]
}

/** What a plan predicted of a token of an answer with such guesses, in ms. */
export function predictedTpotMs(
  { tpotMs, speculatedTpotMs }: Predicted,
  guesses: Guesses | undefined
): number {
  return guesses === undefined ? tpotMs : (speculatedTpotMs ?? tpotMs)
}

/** What the plans in force predicted of a token, in ms: the mean over all tokens of the answer. */
export function meanPredictedTpotMs(answered: Answered): number {
  const stretches = stretchesOf(answered)
  const tokens = stretches.reduce((sum, stretch) => sum + stretch.tokens, 0)
  const all = stretches.reduce(
    (sum, stretch) => sum + stretch.tokens * predictedTpotMs(stretch.predicted, answered.guesses),
    0
  )
  return tokens === 0 ? predictedTpotMs(answered.predicted, answered.guesses) : all / tokens
}

/** Names of the devices that computed an answer, those of its first plan first. */
export function devicesOfAnswer(answered: Answered): string[] {
  const stages = stretchesOf(answered).flatMap(({ plan }) => plan.stages)
  const names = new Map(stages.map(({ peerId, name }) => [peerId, name]))
  return [...names.values()]
}
