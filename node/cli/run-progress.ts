import type { GenerateResult, Predicted } from '../api.ts'
import { predictedFirstMs } from '../first-token.ts'
import { placeName } from '../place-name.ts'
import { shortNames } from '../short-names.ts'
import { meanPredictedTpotMs } from '../stretches.ts'
import { formatMs } from '../units.ts'
import { clean } from './format.ts'

/** `desk [0, 5) -> laptop [5, 10)`, or `desk (gpu) [0, 5) -> desk (cpu) [5, 10)`. */
export function planLine(plan: GenerateResult['plan']): string {
  const names = shortNames(plan.stages)
  return plan.stages
    .map(({ peerId, processor, layers: [start, end] }) => {
      const place = placeName({ id: names.get(peerId)!, processor })
      return `${clean(place)} [${start}, ${end})`
    })
    .join(' -> ')
}

/** What a token takes with guesses ahead, where the plan counted on some: `, 7 ms with guesses`. */
export function guessedWords({ speculatedTpotMs }: Pick<Predicted, 'speculatedTpotMs'>): string {
  return speculatedTpotMs === undefined ? '' : `, ${formatMs(speculatedTpotMs)} with guesses`
}

/** Tokens and times of an answer, beside what the plan predicted. */
export function figuresLine(result: GenerateResult): string {
  const { promptTokens, tokens, ttftMs, tpotMs, predicted, finishReason, recoveries } = result
  const { moves, guesses, exact, otherClass, stretches } = result
  // After a loss or a move the first plan's prediction is no longer of what computes.
  const predictedWords =
    stretches === undefined
      ? `predicted ${formatMs(predicted.tpotMs)}${guessedWords(predicted)}`
      : `its ${stretches.length} plans predicted ${formatMs(meanPredictedTpotMs({ ...result, count: tokens.length }))}`
  return [
    `${promptTokens} prompt tokens, ${tokens.length} new (${finishReason})`,
    `first token ${formatMs(ttftMs)} (predicted ${formatMs(predictedFirstMs(predicted))})`,
    `then ${formatMs(tpotMs)} a token (${predictedWords})`,
    ...(guesses === undefined ? [] : [`${guesses.held} of ${guesses.sent} guesses held`]),
    ...(recoveries > 0 ? [`${recoveries} stages replaced on the way`] : []),
    ...(moves === undefined ? [] : [`${moves.length} times moved to other devices without a pause`]),
    ...(otherClass === true ? ['layers went on at another class of bits, so tokens may be others'] : []),
    ...(exact === undefined ? [] : [exact ? 'exact' : 'not exact: the kernels of a device do not keep bits'])
  ].join('; ')
}
