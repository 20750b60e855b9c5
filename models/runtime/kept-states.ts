/**
 * States of a sequence that are kept beside the one that steps change: as it was before the last step of several tokens, and
 * before the first single token behind such a step. That is, of a conversation, a little before the end of its prompt and at
 * the end of it. A next turn goes on from the end of the answer where it repeats all of that, from the prompt's end where the answer
 * was cut, and from a little before it where the model's template writes past turns otherwise than the open one.
 */
export const KEPT_STATES = 2

/** Where the state as it is before a step of `tokens` tokens is kept; undefined: nowhere. */
export function keptPlace(tokens: number, afterSeveral: boolean): 0 | 1 | undefined {
  if (tokens > 1) return 0
  return afterSeveral ? 1 : undefined
}

/** The lengths that have a kept state when steps of these sizes have been computed behind `from` tokens. */
export function keptLengths(from: number, steps: readonly number[]): number[] {
  const kept: (number | undefined)[] = []
  let length = from
  let afterSeveral = false
  for (const tokens of steps) {
    const place = keptPlace(tokens, afterSeveral)
    if (place !== undefined && length > 0) kept[place] = length
    afterSeveral = tokens > 1
    length += tokens
  }
  return kept.filter(each => each !== undefined)
}
