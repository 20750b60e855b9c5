import { CheckpointError } from '../errors.ts'
import type { GgufFile } from '../formats/gguf.ts'
import type { Architecture } from './architectures/architecture.ts'
import { type GgufMetadata, keyOf } from './gguf-metadata.ts'

/** Sizes that layers with a window may have for themselves. */
export interface HeadSizes {
  kvHeads: number
  headSize: number
}

/** The heads of layers of both kinds. */
export interface LayerHeads {
  /** Heads of layers without a window, which are the model's own. */
  full: HeadSizes
  /** Heads of layers with one; undefined: the same. */
  windowed: HeadSizes | undefined
  /** Layers without a window have no values of their own: their keys are both. */
  fullShares: boolean
}

/**
 * What config.json says of heads, `own` being what it says of all architectures' heads: of layers with a window where the
 * architecture tells them apart.
 *
 * @throws {CheckpointError} naming a key that makes no sense.
 */
export function headsOfConfig(
  file: string,
  config: Record<string, unknown>,
  { window }: Architecture,
  own: HeadSizes
): LayerHeads {
  const rule = window?.heads
  if (rule === undefined) return { full: own, windowed: undefined, fullShares: false }
  const number = (key: string): number | undefined => {
    const value = config[key] ?? undefined
    if (value === undefined || (typeof value === 'number' && Number.isInteger(value) && value > 0))
      return value
    throw new CheckpointError(file, `${key} is ${JSON.stringify(value).slice(0, 40)}, not a number of values`)
  }
  const shares = config[rule.shared.huggingFace] ?? false
  if (typeof shares !== 'boolean') {
    throw new CheckpointError(file, `${rule.shared.huggingFace} is neither true nor false`)
  }
  return {
    full: {
      headSize: number(rule.headSize.huggingFace) ?? rule.headSize.default,
      // As transformers has it, other heads come only where keys are values, too.
      kvHeads: (shares ? number(rule.kvHeads.huggingFace) : undefined) ?? own.kvHeads
    },
    windowed: own,
    fullShares: shares
  }
}

/** Keys of config.json by which layers with and without a window have heads of their own. */
export function headKeys({ window }: Architecture): string[] {
  const rule = window?.heads
  return rule === undefined ? [] : [rule.headSize, rule.kvHeads, rule.shared].map(key => key.huggingFace)
}

/** Keys of GGUF's metadata by which they have. */
export const GGUF_HEAD_KEYS = [
  'attention.key_length_swa',
  'attention.value_length_swa',
  'rope.dimension_count_swa'
]

/**
 * What a GGUF file says of heads: the model's keys are of layers without a window, and the heads of k and v a list.
 *
 * @throws {CheckpointError} for lists and sizes that fit no model.
 */
export function headsOfGguf(
  metadata: GgufMetadata,
  { window }: Architecture,
  {
    headSize,
    sameKvHeads,
    decoderLayers,
    isWindowed,
    tensors
  }: {
    headSize: number
    /** Heads of k and v where all layers that attend have as many. */
    sameKvHeads: () => number
    decoderLayers: number
    isWindowed: (layer: number) => boolean
    tensors: GgufFile['tensors']
  }
): LayerHeads {
  const key = (suffix: string) => keyOf(metadata, suffix)
  if (window?.heads === undefined) {
    return { full: { headSize, kvHeads: sameKvHeads() }, windowed: undefined, fullShares: false }
  }
  const layers = Array.from({ length: decoderLayers }, (_, layer) => layer)
  const counts = metadata.each(key('attention.head_count_kv'), decoderLayers)
  const kvHeads = (of: boolean) => {
    const found = new Set(layers.filter(layer => isWindowed(layer) === of).map(layer => counts[layer]!))
    if (found.size <= 1) return [...found][0]
    throw new CheckpointError(
      metadata.file,
      `metadata ${key('attention.head_count_kv')} differs within a kind of layers`
    )
  }
  const full = kvHeads(false) ?? kvHeads(true)!
  const [own = headSize, ...others] = GGUF_HEAD_KEYS.map(suffix => metadata.optionalNumber(key(suffix)))
  if (others.some(size => (size ?? own) !== own)) {
    throw new CheckpointError(metadata.file, `metadata ${GGUF_HEAD_KEYS.map(key).join(', ')} differ`)
  }
  const without = layers.filter(layer => !isWindowed(layer))
  return {
    full: { headSize, kvHeads: full },
    windowed: { headSize: own, kvHeads: kvHeads(true) ?? full },
    fullShares: without.length > 0 && without.every(layer => !tensors.has(`blk.${layer}.attn_v.weight`))
  }
}
