import { blockOf } from '../blocks.ts'
import type { LayerRange } from '../layers.ts'
import type { ModelShape } from '../manifest.ts'
import { decoderLayers } from './decoder-layers.ts'

/**
 * The ranges that the graphs of a range's sessions have: no two layers of experts are in one, for a session's time to load
 * grows with the square of its branches (24 layers of 128 experts in one took 84 s, in one each 14 s).
 */
export function sessionRanges(shape: ModelShape, [start, end]: LayerRange): LayerRange[] {
  const ranges: LayerRange[] = []
  let from = start
  let hasExperts = false
  for (const layer of decoderLayers(shape, [start, end])) {
    if (blockOf(shape, layer).feedForward.kind !== 'experts') continue
    if (hasExperts) {
      ranges.push([from, layer])
      from = layer
    }
    hasExperts = true
  }
  return [...ranges, [from, end]]
}
