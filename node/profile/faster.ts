import { monotone } from '../../models/runtime/monotone.ts'
import type { LayerProfile } from '../api.ts'

type Points = LayerProfile[string]['decodeMsByBatch']

/**
 * The shorter one of two timings of the same layers, figure by figure: what disturbs a timing, as the start of a node
 * does, only ever makes it longer.
 */
export function faster(one: LayerProfile, other: LayerProfile): LayerProfile {
  const kinds = Object.entries(one).map(([kind, times]) => {
    const again = other[kind] ?? times
    const decodeMs = Math.min(times.decodeMs, again.decodeMs)
    const prefillMsPerToken = Math.min(times.prefillMsPerToken, again.prefillMsPerToken)
    const byBatch = shortest(times.decodeMsByBatch, again.decodeMsByBatch)
    const byContext = shortest(times.decodeMsByContext, again.decodeMsByContext)
    const prompts = shortest(times.prefillMsByTokens, again.prefillMsByTokens)
    const prefill = shortest(times.prefillMsPerTokenByContext, again.prefillMsPerTokenByContext)
    const loadMs = Math.min(
      times.loadMs ?? Number.POSITIVE_INFINITY,
      again.loadMs ?? Number.POSITIVE_INFINITY
    )
    const points = {
      ...(Number.isFinite(loadMs) && { loadMs }),
      ...(byBatch && { decodeMsByBatch: byBatch }),
      ...(byContext && { decodeMsByContext: byContext }),
      ...(prompts && { prefillMsByTokens: prompts }),
      ...(prefill && { prefillMsPerTokenByContext: prefill })
    }
    return [kind, { decodeMs, prefillMsPerToken, ...points }] as const
  })
  return Object.fromEntries(kinds)
}

function shortest(one: Points, other: Points): Points {
  if (one === undefined || other === undefined) return one ?? other
  const least = { ...one }
  for (const [size, ms] of Object.entries(other)) least[size] = Math.min(ms, one[size] ?? ms)
  return monotone(least)
}
