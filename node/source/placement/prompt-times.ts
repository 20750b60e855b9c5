import { prefillChunks } from '../../../models/runtime/hidden.ts'
import type { LayerProfile } from '../../api.ts'
import { interpolateMs } from '../../plan/context.ts'

/**
 * Milliseconds that a token of a prompt of so many tokens takes a layer, in the mean: prompts go in chunks, of which the last
 * may be a short one, which takes more a token. What attention to the tokens before adds comes on top.
 *
 * @param times of one kind of layer, as its device says them
 */
export function promptTokenMs(
  { decodeMs, prefillMsPerToken, prefillMsByTokens }: LayerProfile[string],
  promptTokens: number
): number {
  if (prefillMsByTokens === undefined) return prefillMsPerToken
  const points = Object.entries({ 1: decodeMs, ...prefillMsByTokens })
    .map(([tokens, ms]) => [Number(tokens), ms] as const)
    .sort(([a], [b]) => a - b)
  const chunks = prefillChunks(promptTokens)
  return chunks.reduce((sum, [start, end]) => sum + interpolateMs(points, end - start), 0) / promptTokens
}

/** The same of a head, which computes the last token of a prompt alone, however long that is. */
export function headTokenMs({ decodeMs }: LayerProfile[string], promptTokens: number): number {
  return decodeMs / promptTokens
}
