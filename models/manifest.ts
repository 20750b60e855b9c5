import type { LayerKind } from './layers.ts'

/** A file in the store, named by the SHA-256 (64 lower-case hex digits) of its bytes. */
export interface BlobRef {
  sha256: string
  bytes: number
}

/** How many bits a projection's weights have: the checkpoint's values in float32, or blocks of 8 or 4 bits. */
export type Precision = 'float32' | 'q8' | 'q4'

/** Rotary embedding: `theta` and, for Llama 3.1/3.2, how long contexts are stretched. */
export interface RopeSpec {
  theta: number
  scaling?: {
    type: 'llama3' | 'linear'
    factor: number
    lowFreqFactor?: number
    highFreqFactor?: number
    originalContextLength?: number
  }
}

/** The blueprint of a model: all that its graph needs to know besides the weights. Sizes in elements. */
export interface ModelShape {
  /** `model_type` of the checkpoint: `llama`, `mistral`, `qwen2`, `qwen3`. */
  architecture: string
  decoderLayers: number
  hiddenSize: number
  ffnSize: number
  heads: number
  kvHeads: number
  headSize: number
  vocabSize: number
  contextLength: number
  normEpsilon: number
  rope: RopeSpec
}

/**
 * One tensor inside a layer's file. Projections are stored [out, in] as the checkpoint has them (float32), or in
 * blocks along `in`: `<name>.weight` as uint8 (out, in / blockSize, blockSize * bits / 8) and `<name>.scales` as
 * float32 (out, in / blockSize).
 */
export interface TensorEntry {
  name: string
  type: 'float32' | 'uint8'
  shape: number[]
  /** Where the tensor starts in the layer's file, a multiple of 64. */
  offset: number
  bytes: number
  /** Only for quantised weights. */
  quantization?: { bits: 4 | 8; blockSize: number }
}

/** One layer's weights: a single file with its tensors one behind the other. */
export interface LayerFile extends BlobRef {
  kind: LayerKind
  tensors: TensorEntry[]
}

/**
 * Everything a node must know of a model before it reads a weight. Serialised as JSON; the SHA-256 of those bytes is
 * the model's id, so two nodes that say the same id mean the same weights.
 */
export interface Manifest {
  version: 1
  shape: ModelShape
  precision: Precision
  /** L + 2 files: the embedding, the decoder layers in order, the head (norm and output projection). */
  layers: LayerFile[]
  /** tokenizer.json, tokenizer_config.json, generation_config.json: file name to blob. Only a source needs them. */
  files: Record<string, BlobRef>
  bosTokenId?: number
  /** Every token that ends a reply. */
  eosTokenIds: number[]
}
