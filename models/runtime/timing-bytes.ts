import type { LayerRange } from '../layers.ts'
import type { ModelShape, Quantization } from '../manifest.ts'
import { PREFILL_CHUNK_TOKENS } from './hidden.ts'
import { leaseBytes } from './memory.ts'
import { randomManifest } from './random-weights.ts'

/** Sequences of the largest step that is timed. */
const MOST_SEQUENCES = 16
const KINDS: LayerRange[] = [
  [0, 1],
  [1, 2],
  [2, 3]
]

/**
 * Bytes that timing the layers of a shape takes at once, one layer of each kind after the other, as a lease of the largest
 * would cost; besides come up to 144 MiB that no shape makes more (copies of small layers, a longer context, what is read in between).
 */
export function timingBytes(shape: ModelShape, quantization: Quantization | undefined): number {
  const manifest = randomManifest({ ...shape, decoderLayers: 1 }, quantization)
  const room = { slots: MOST_SEQUENCES, maxTokens: Math.min(PREFILL_CHUNK_TOKENS + 1, shape.contextLength) }
  return Math.max(
    ...KINDS.map(range => {
      const { weightBytes, ownBytes } = leaseBytes(manifest, range, room)
      return weightBytes + ownBytes
    })
  )
}
