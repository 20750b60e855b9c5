/**
 * Why sessions cannot go on at the sender of an error frame, and so which stage is at fault.
 *
 * - `next`: its stage is well, but the next one cannot be reached: that one's.
 * - `input`: the stage before sends what these sessions do not expect: that one's.
 * - `not-finite`: these sessions' own numbers are finite no longer: no stage's; the others go on.
 * - `stage`: anything else: the sender's.
 */
export const STAGE_CODES = ['next', 'input', 'not-finite', 'stage'] as const

export type StageCode = (typeof STAGE_CODES)[number]

/** A code as a peer sent it; one that only a later version knows counts as `stage`. */
export function stageCode(text: string): StageCode {
  return STAGE_CODES.find(code => code === text) ?? 'stage'
}
