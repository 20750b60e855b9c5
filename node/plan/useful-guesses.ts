/** A guess is not fed that holds, with all before it, less often than this. */
const LEAST_CHANCE = 0.03
/** A draft that is right less often feeds not even one: what it saves is less than what stages take from each other. */
const LEAST_ACCEPTANCE = 0.1

/**
 * Guesses under way at once that hold often enough to be worth a step of the stages; 0 where none is.
 *
 * @param acceptance share of a draft's guesses that are right, 0 to 1
 */
export function usefulGuesses(acceptance: number): number {
  if (acceptance < LEAST_ACCEPTANCE) return 0
  if (acceptance >= 1) return Number.POSITIVE_INFINITY
  return Math.max(1, Math.floor(Math.log(LEAST_CHANCE) / Math.log(acceptance)))
}
