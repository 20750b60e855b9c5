import type { LayerRange } from '../layers.ts'
import type { Manifest, ModelShape } from '../manifest.ts'
import { decoderLayers } from './kv-cache.ts'

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

/**
 * Tokens that each slot of a KV cache has room for: where several sequences decode together, one more than they may
 * have, for a full one puts the token that is not read there.
 */
export function slotTokens({ slots, maxTokens }: { slots: number; maxTokens: number }): number {
  return slots > 1 ? maxTokens + 1 : maxTokens
}

/** Bytes of the KV cache of `slots` sequences of up to `maxTokens` tokens each, on a layer range. */
export function kvCacheBytes(
  shape: ModelShape,
  range: LayerRange,
  { slots, maxTokens }: { slots: number; maxTokens: number }
): number {
  return slots * kvBytes(shape, range, slotTokens({ slots, maxTokens }))
}

/** Bytes that one token takes in one decoder layer's KV cache. */
export function kvBytesPerToken({ kvHeads, headSize }: ModelShape): number {
  return 2 * kvHeads * headSize * FLOAT_BYTES
}

/** Bytes of the hidden states of `tokens` tokens. */
export function hiddenBytes({ hiddenSize }: ModelShape, tokens: number): number {
  return tokens * hiddenSize * FLOAT_BYTES
}
