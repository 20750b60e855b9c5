/**
 * Why a blob is not sent.
 *
 * - `absent`: the peer does not hold it: of no use to ask again.
 * - `busy`: the peer sends as many to this node as it does at once: it may be asked again at once.
 * - `internal`: anything else; `reason` says what.
 */
export const WEIGHTS_CODES = ['absent', 'busy', 'internal'] as const

export type WeightsCode = (typeof WEIGHTS_CODES)[number]

/** A code as a peer sent it; one that only a later version knows counts as `internal`. */
export function weightsCode(text: string): WeightsCode {
  return WEIGHTS_CODES.find(code => code === text) ?? 'internal'
}
