import type { GenerateResult, Predicted } from '../api.ts'
import { predictedFirstMs, predictedFirstText } from '../first-token.ts'
import { placeName } from '../place-name.ts'
import { shortNames } from '../short-names.ts'
import { meanPredictedTpotMs } from '../stretches.ts'
import { counted, formatMs } from '../units.ts'
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

/** What was predicted of an answer and what it took, a line each, from the same moment and in the same order. */
export function timesLines(result: GenerateResult): string[] {
  const { ttftMs, tpotMs, predicted, stretches } = result
  const then = (token: string) => (tpotMs > 0 ? `, then ${token}` : '')
  const plans =
    stretches === undefined ? guessedWords(predicted) : `, the mean of its ${stretches.length} plans`
  return [
    `predicted: first token ${predictedFirstText(predicted)}${then(`${predictedTokenText(result)} a token${plans}`)}`,
    `measured:  first token ${formatMs(ttftMs)}${then(`${formatMs(tpotMs)} a token`)}`
  ]
}

/** What a token was to take: after a loss or a move the first plan's prediction is no longer of what computes. */
function predictedTokenText(result: GenerateResult): string {
  const { predicted, stretches, tokens } = result
  return formatMs(
    stretches === undefined ? predicted.tpotMs : meanPredictedTpotMs({ ...result, count: tokens.length })
  )
}

/** Tokens and times of an answer, beside what the plan predicted. */
export function figuresLine(result: GenerateResult): string {
  const { promptTokens, tokens, ttftMs, tpotMs, predicted, finishReason, recoveries } = result
  const { moves, guesses, exact, otherClass, stretches } = result
  const predictedWords =
    stretches === undefined
      ? `predicted ${predictedTokenText(result)}${guessedWords(predicted)}`
      : `its ${stretches.length} plans predicted ${predictedTokenText(result)}`
  return [
    `${promptTokens} prompt tokens, ${tokens.length} new (${finishReason})`,
    `first token ${formatMs(ttftMs)} (predicted ${formatMs(predictedFirstMs(predicted))})`,
    `then ${formatMs(tpotMs)} a token (${predictedWords})`,
    ...(guesses === undefined ? [] : [`${guesses.held} of ${guesses.sent} guesses held`]),
    ...(recoveries > 0 ? [`${counted(recoveries, 'stage')} replaced on the way`] : []),
    ...(moves === undefined
      ? []
      : [`moved to other devices ${counted(moves.length, 'time')} without a pause`]),
    ...(otherClass === true ? ['layers went on at another class of bits, so tokens may be others'] : []),
    ...(exact === undefined ? [] : [exact ? 'exact' : 'not exact: the kernels of a device do not keep bits'])
  ].join('; ')
}
