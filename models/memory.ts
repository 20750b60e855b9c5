import { decoderLayers } from './kv-cache.ts'
import type { LayerRange } from './layers.ts'
import type { Manifest, ModelShape } from './manifest.ts'

const FLOAT_BYTES = 4

/** Bytes of the weight files of a layer range, or of all layers: what is read, stored and, once loaded, held. */
export function weightBytes(
  manifest: Manifest,
  [start, end]: LayerRange = [0, manifest.layers.length]
): number {
  return manifest.layers.slice(start, end).reduce((sum, layer) => sum + layer.bytes, 0)
}

/** Bytes of the KV cache of one sequence of up to `maxTokens` tokens on a layer range (float32 keys and values). */
export function kvBytes(shape: ModelShape, range: LayerRange, maxTokens: number): number {
  return decoderLayers(shape, range).length * kvBytesPerToken(shape) * maxTokens
}

/** Bytes that one token takes in one decoder layer's KV cache. */
export function kvBytesPerToken({ kvHeads, headSize }: ModelShape): number {
  return 2 * kvHeads * headSize * FLOAT_BYTES
}

/** Bytes of the hidden states of `tokens` tokens. */
export function hiddenBytes({ hiddenSize }: ModelShape, tokens: number): number {
  return tokens * hiddenSize * FLOAT_BYTES
}
