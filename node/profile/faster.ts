import type { LayerProfile } from '../types.ts'

/**
 * Of two timings of the same layers the faster one, kind by kind: what disturbs a timing, as the start of a node does,
 * only ever makes it longer.
 */
export function faster(one: LayerProfile, other: LayerProfile): LayerProfile {
  const kinds = Object.entries(one).map(([kind, times]) => {
    const again = other[kind]
    return [kind, again !== undefined && again.decodeMs < times.decodeMs ? again : times] as const
  })
  return Object.fromEntries(kinds)
}
