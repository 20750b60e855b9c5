import { z } from 'zod'
import {
  type Block,
  BlockSchema,
  known,
  MAX_HEAD_SIZE,
  Rope,
  type RopeSpec,
  RopeV1,
  size
} from './block-schema.ts'
import { sizesOf } from './blocks.ts'
import { MAX_LAYERS } from './layers.ts'
import { recurrenceSizes } from './recurrence.ts'
import { POOLINGS } from './runtime/pooling.ts'
import { SHA256 } from './sha256.ts'

/** The largest tokenizer or configuration file beside the weights; the largest known tokenizer.json has 35 MB. */
export const MAX_SIDE_FILE_BYTES = 128 * 1024 * 1024
/** All of them together, as they are read at once. */
export const MAX_SIDE_FILES_BYTES = MAX_SIDE_FILE_BYTES

/** All but the embedding and the head. */
export const MAX_DECODER_LAYERS = MAX_LAYERS - 2
const MAX_BLOCKS = 16
const MAX_LAYER_BYTES = 2 ** 40
/** Tensors of a layer: one of all features that go together, whose projections all have scales and shifts, has 41. */
const MAX_TENSORS = 48

const Blob = (maxBytes: number) =>
  z.strictObject({
    sha256: z.string().regex(SHA256, 'is not a SHA-256 in lower-case hex'),
    bytes: size(maxBytes)
  })

/** A file in the store, named by the SHA-256 (64 lower-case hex digits) of its bytes. */
export type BlobRef = z.infer<ReturnType<typeof Blob>>

/** What versions 1 and 2 have in common. */
const dimensions = {
  /** `model_type` of the checkpoint, for people: nothing is computed by it. */
  architecture: z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/, 'is not an architecture name'),
  decoderLayers: size(MAX_DECODER_LAYERS),
  hiddenSize: size(2 ** 16),
  ffnSize: size(2 ** 18),
  heads: size(1024),
  kvHeads: size(1024),
  headSize: size(MAX_HEAD_SIZE),
  vocabSize: size(2 ** 21),
  contextLength: size(2 ** 26),
  normEpsilon: z.number().positive().lt(1)
}

type Dimensions = Omit<z.infer<z.ZodObject<typeof dimensions>>, 'architecture' | 'normEpsilon'>
const groupsEvenly = (s: Dimensions) => s.heads % s.kvHeads === 0
const UNEVEN = { error: 'heads is not a multiple of kvHeads' }
const hasPairs = (s: Dimensions) => s.headSize % 2 === 0
const ODD = { error: 'headSize is odd: rotary embedding needs pairs' }

/**
 * Each bound is several times what the largest published models have: 24,576 for the query heads, 2^30 in a projection (hidden
 * 16,384 by feed-forward 53,248) and 2^32 of a vocabulary (262,144 by 16,384). Sizes that are each possible together are not.
 */
const MAX_ATTENTION_SIZE = 2 ** 17
const MAX_PROJECTION_ELEMENTS = 2 ** 33
const MAX_VOCABULARY_ELEMENTS = 2 ** 34
const isPossible = ({ heads, kvHeads, headSize, hiddenSize, ffnSize, vocabSize }: Dimensions) =>
  (heads + 2 * kvHeads) * headSize <= MAX_ATTENTION_SIZE &&
  (heads + 2 * kvHeads) * headSize * hiddenSize <= MAX_PROJECTION_ELEMENTS &&
  ffnSize * hiddenSize <= MAX_PROJECTION_ELEMENTS &&
  vocabSize * hiddenSize <= MAX_VOCABULARY_ELEMENTS
/** Rows of a tensor, and weights of all experts of a layer: DeepSeek V3 has 2^20 of those, and 2^32 of these. */
const MAX_ROWS = 2 ** 21
const MAX_EXPERT_ELEMENTS = 2 ** 35
/** Numbers of a state of a layer and sequence; Qwen3.5-27B has 2^20. */
const MAX_STATE_ELEMENTS = 2 ** 26
const IMPOSSIBLE = { error: 'sizes multiply to more than any model has' }

/** The blueprint of version 1, which left it to the tensors' names what a layer computes. */
export const ShapeSchemaV1 = z
  .strictObject({ ...dimensions, rope: RopeV1 })
  .refine(groupsEvenly, UNEVEN)
  .refine(hasPairs, ODD)
  .refine(isPossible, IMPOSSIBLE)

/** Whether something is true of a model with the sizes of any of its blocks. */
const ofEveryBlock =
  (isTrue: (sizes: Dimensions) => boolean) =>
  (shape: Dimensions & { blocks: Block[] }): boolean =>
    shape.blocks.every(block => isTrue({ ...shape, ...sizesOf(shape, block) }))
const holdsExperts = (shape: Dimensions & { blocks: Block[] }) =>
  shape.blocks.every(block => {
    if (block.feedForward.kind !== 'experts') return true
    const { hiddenSize } = shape
    const { experts, shared, beside } = block.feedForward
    const { ffnSize } = sizesOf(shape, block)
    return (
      experts * Math.max(2 * ffnSize, hiddenSize) <= MAX_ROWS &&
      experts * 2 * ffnSize * hiddenSize <= MAX_EXPERT_ELEMENTS &&
      (beside ? shape.ffnSize : (shared?.size ?? 0)) * hiddenSize <= MAX_PROJECTION_ELEMENTS
    )
  })
const holdsStates = ({ hiddenSize, blocks }: Dimensions & { blocks: Block[] }) =>
  blocks.every(({ recurrence }) => {
    if (recurrence === undefined) return true
    const { inputs, matrices = [] } = recurrenceSizes(recurrence, hiddenSize)
    return (
      inputs <= MAX_ATTENTION_SIZE &&
      inputs * hiddenSize <= MAX_PROJECTION_ELEMENTS &&
      matrices.reduce((product, n) => product * n, 1) <= MAX_STATE_ELEMENTS
    )
  })
const turnsWhatIsThere = (shape: Dimensions & { rope: RopeSpec; blocks: Block[] }) =>
  isTurnable(shape.rope, shape.headSize) &&
  shape.blocks.every(block => isTurnable(block.attention.rope ?? shape.rope, sizesOf(shape, block).headSize))
const isTurnable = ({ rotated, scaling }: RopeSpec, headSize: number) =>
  (rotated ?? 0) <= headSize &&
  (scaling?.type !== 'divided' || 2 * scaling.divisors.length === (rotated ?? headSize)) &&
  (scaling?.type !== 'proportional' || 2 * scaling.pairs <= (rotated ?? headSize)) &&
  (scaling?.type !== 'yarn' || scaling.betaFast >= scaling.betaSlow)
/** Whether blocks with a latent vector keep just it and the part that is turned, and multiply what a model may have. */
const holdsLatents = (shape: Dimensions & { rope: RopeSpec; blocks: Block[] }) =>
  shape.blocks.every(({ attention, feedForward, norms }) => {
    const { latent } = attention
    if (latent === undefined) return true
    const { heads, kvHeads, headSize } = sizesOf(shape, { attention, feedForward, norms })
    const rotated = (attention.rope ?? shape.rope).rotated ?? headSize
    const { size, unturned, value, query = shape.hiddenSize } = latent
    return (
      kvHeads === 1 &&
      headSize === size + rotated &&
      heads * Math.max(unturned + rotated, value) <= MAX_ATTENTION_SIZE &&
      heads * (unturned + rotated) * query <= MAX_PROJECTION_ELEMENTS &&
      heads * (unturned + value) * size <= MAX_PROJECTION_ELEMENTS
    )
  })
const NO_LATENT = { error: 'latent does not fit the heads' }
const NOT_TURNABLE = { error: 'rope does not fit the heads, or itself' }

/** Bounds of a blueprint: far above any real model, far below what breaks arithmetic. */
export const ShapeSchema = z
  .strictObject({
    ...dimensions,
    rope: Rope,
    /** `rms` divides by the root of the mean square, `layer` takes the mean off before. */
    normKind: known('rms', 'layer'),
    /** The different blocks, in the order in which layers first use them. */
    blocks: z.array(BlockSchema).min(1).max(MAX_BLOCKS),
    /** Which of `blocks` each decoder layer is, from its start again where it ends: [0] where all are alike. */
    layout: z.array(z.int().min(0).lt(MAX_BLOCKS)).min(1).max(MAX_DECODER_LAYERS),
    /** Logits are kept within it: softcap tanh(logit / softcap). */
    logitSoftcap: z
      .number()
      .positive()
      .lt(2 ** 40)
      .exactOptional()
  })
  .refine(ofEveryBlock(groupsEvenly), UNEVEN)
  .refine(ofEveryBlock(hasPairs), ODD)
  .refine(ofEveryBlock(isPossible), IMPOSSIBLE)
  .refine(holdsExperts, IMPOSSIBLE)
  .refine(holdsStates, IMPOSSIBLE)
  .refine(turnsWhatIsThere, NOT_TURNABLE)
  .refine(holdsLatents, NO_LATENT)

/** The blueprint of a model: all that its graph needs to know besides the weights. Sizes in elements. */
export type ModelShape = z.infer<typeof ShapeSchema>

const QuantizationSchema = z.strictObject({
  bits: z.literal([4, 8]),
  /** Weights along `in` that share a scale. */
  blockSize: z.literal([16, 32, 64, 128, 256]),
  /** Blocks have a shift beside their scale, as GGUF types with a minimum need; they divide `in`. */
  shifted: z.literal(true).exactOptional()
})

/** How the weights of one projection are packed. Of `blockSize`, 16, 32, 64, 128 and 256 are read. */
export type Quantization = Omit<z.infer<typeof QuantizationSchema>, 'blockSize'> & { blockSize: number }

const Tensor = z.strictObject({
  name: z.string().regex(/^[a-z_]{1,32}(\.weight|\.scales|\.shifts)?$/, 'is not a tensor name'),
  type: z.enum(['float32', 'uint8']),
  shape: z.array(size(MAX_ROWS)).min(1).max(3),
  /** Where the tensor starts in the layer's file. */
  offset: z.int().min(0).max(MAX_LAYER_BYTES).multipleOf(64),
  bytes: size(MAX_LAYER_BYTES),
  /** Only for quantised weights. */
  quantization: QuantizationSchema.exactOptional()
})

/**
 * One tensor inside a layer's file, named as models/tensors.ts says. Projections are stored [out, in] as the
 * checkpoint has them (float32), or in blocks along `in`: `<name>.weight` as uint8 (out, ceil(in / blockSize),
 * blockSize * bits / 8), the lower bits first, zero point 2^(bits - 1), and `<name>.scales` as float32 (out,
 * ceil(in / blockSize)). What a last block has beyond `in` is the zero point. Where blocks are shifted, `<name>.shifts`
 * follows, as float32 (out, in / blockSize): it is added to each weight of its block.
 */
export type TensorEntry = Omit<z.infer<typeof Tensor>, 'quantization'> & { quantization?: Quantization }

const Layer = Blob(MAX_LAYER_BYTES).extend({
  kind: z.enum(['embedding', 'decoder', 'head']),
  tensors: z.array(Tensor).min(1).max(MAX_TENSORS)
})

/** One layer's weights: a single file with its tensors one behind the other. */
export type LayerFile = Omit<z.infer<typeof Layer>, 'tensors'> & { tensors: TensorEntry[] }

const FileName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,47}(\.[a-z0-9]{1,8})?$/, 'is not a file name')

const PrecisionSchema = z.enum(['float32', 'q8', 'q4'])

/** How many bits a projection's weights have: the checkpoint's values in float32, or blocks of 8 or 4 bits. */
export type Precision = z.infer<typeof PrecisionSchema>

const contents = {
  precision: PrecisionSchema,
  /** L + 2 files: the embedding, the decoder layers in order, the head (norm and output projection). */
  layers: z.array(Layer).min(3).max(MAX_LAYERS),
  /** tokenizer.json, tokenizer_config.json, generation_config.json: file name to blob. Only a source needs them. */
  files: z
    .record(FileName, Blob(MAX_SIDE_FILE_BYTES))
    .refine(f => Object.keys(f).length <= 16, { error: 'has more than 16 files' })
    .refine(f => Object.values(f).reduce((sum, { bytes }) => sum + bytes, 0) <= MAX_SIDE_FILES_BYTES, {
      error: `has more than ${MAX_SIDE_FILES_BYTES} bytes in all files`
    }),
  bosTokenId: z.int().min(0).exactOptional(),
  /** Every token that ends a reply. */
  eosTokenIds: z.array(z.int().min(0)).max(64)
}

const V1 = z.strictObject({ version: z.literal(1), shape: ShapeSchemaV1, ...contents })
const V2 = z.strictObject({
  version: z.literal(2),
  shape: ShapeSchema,
  ...contents,
  /** How its hidden states become an embedding, where the model came with a word on that. */
  pooling: z.enum(POOLINGS).exactOptional(),
  /** A layer behind the last one that guesses a further token (models/guessing.ts): only who drafts needs it. */
  guessing: z.strictObject({ block: BlockSchema, layer: Layer }).exactOptional()
})

const UNKNOWN_VERSION =
  'is neither 1 nor 2: the model was written by a newer EdgeShard than this one, or is damaged'

/** What a manifest looks like; what its parts have to do with each other is checked by parseManifest. */
export const ManifestSchema = z.discriminatedUnion('version', [V1, V2], {
  error: ({ code }) => (code === 'invalid_union' ? UNKNOWN_VERSION : undefined)
})

export type ManifestV1 = z.infer<typeof V1>

/**
 * Everything a node must know of a model before it reads a weight. Serialised as JSON; the SHA-256 of those bytes is
 * the model's id, so two nodes that say the same id mean the same weights. In memory every version has the shape of the
 * newest; `version` says how it was, and will be, written.
 */
export interface Manifest extends Omit<z.infer<typeof V2>, 'version' | 'layers' | 'guessing'> {
  version: 1 | 2
  layers: LayerFile[]
  guessing?: { block: Block; layer: LayerFile }
}
