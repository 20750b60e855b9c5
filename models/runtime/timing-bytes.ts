import { timedKinds } from '../blocks.ts'
import type { ModelShape, Quantization } from '../manifest.ts'
import { PREFILL_CHUNK_TOKENS } from './hidden.ts'
import { leaseBytes } from './memory.ts'
import { randomManifest } from './random-weights.ts'

/** Sequences of the largest step that is timed. */
const MOST_SEQUENCES = 32

/**
 * Bytes that timing the layers of a shape takes at once, one layer of each kind after the other, as a lease of the largest
 * would cost; besides come up to 160 MiB that no shape makes more (copies of small layers, a longer context, what is read in between).
 */
export function timingBytes(shape: ModelShape, quantization: Quantization | undefined): number {
  const room = { slots: MOST_SEQUENCES, maxTokens: Math.min(PREFILL_CHUNK_TOKENS + 1, shape.contextLength) }
  return Math.max(
    ...timedKinds(shape).map(({ kind, shape: alike }) => {
      const manifest = randomManifest({ ...alike, decoderLayers: 1 }, quantization)
      const layer = kind === 'embedding' ? 0 : kind === 'head' ? 2 : 1
      const { weightBytes, ownBytes } = leaseBytes(manifest, [layer, layer + 1], room)
      return weightBytes + ownBytes
    })
  )
}
