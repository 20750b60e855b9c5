import type { Block, RopeSpec } from './block-schema.ts'
import { arrangeBlocks } from './blocks.ts'
import type { Manifest, ManifestV1 } from './manifest-schema.ts'

/**
 * Version 1 in memory. It had Llama's layer and left it to the tensors' names whether there are biases and norms on q
 * and k.
 */
export function upgradeV1(manifest: ManifestV1): Manifest {
  const { shape, layers } = manifest
  const blocks = layers.slice(1, shape.decoderLayers + 1).map(({ tensors }): Block => {
    const has = (name: string) => tensors.some(tensor => tensor.name === name)
    return {
      attention: {
        kind: 'grouped-query',
        bias: has('qkv_bias') ? 'qkv' : 'none',
        queryKeyNorm: has('q_norm') ? 'head' : 'none',
        rotary: 'half-split'
      },
      feedForward: { kind: 'gated', activation: 'silu' },
      norms: 'before'
    }
  })
  return { ...manifest, shape: { ...shape, normKind: 'rms', ...arrangeBlocks(blocks) } }
}

/** The JSON value that a version 1 was written as, its keys in the order that its id was taken of. */
export function valueV1({ shape, precision, layers, files, bosTokenId, eosTokenIds }: Manifest): unknown {
  return {
    version: 1,
    shape: {
      architecture: shape.architecture,
      decoderLayers: shape.decoderLayers,
      hiddenSize: shape.hiddenSize,
      ffnSize: shape.ffnSize,
      heads: shape.heads,
      kvHeads: shape.kvHeads,
      headSize: shape.headSize,
      vocabSize: shape.vocabSize,
      contextLength: shape.contextLength,
      normEpsilon: shape.normEpsilon,
      rope: { theta: shape.rope.theta, scaling: scalingV1(shape.rope.scaling) }
    },
    precision,
    layers: layers.map(({ sha256, bytes, kind, tensors }) => ({
      sha256,
      bytes,
      kind,
      tensors: tensors.map(({ name, type, shape: dims, offset, bytes: length, quantization: packing }) => ({
        name,
        type,
        shape: dims,
        offset,
        bytes: length,
        quantization: packing && {
          bits: packing.bits,
          blockSize: packing.blockSize,
          shifted: packing.shifted
        }
      }))
    })),
    files: Object.fromEntries(
      Object.entries(files)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, ref]) => [name, { sha256: ref.sha256, bytes: ref.bytes }])
    ),
    bosTokenId,
    eosTokenIds
  }
}

function scalingV1(scaling: RopeSpec['scaling']): unknown {
  if (scaling?.type === 'linear') return { type: scaling.type, factor: scaling.factor }
  if (scaling?.type !== 'llama3') return undefined
  const { type, factor, lowFreqFactor, highFreqFactor, originalContextLength } = scaling
  return { type, factor, lowFreqFactor, highFreqFactor, originalContextLength }
}
