import { z } from 'zod'

/** The largest tokenizer or configuration file beside the weights; the largest known tokenizer.json has 35 MB. */
export const MAX_SIDE_FILE_BYTES = 128 * 1024 * 1024

const MAX_DECODER_LAYERS = 1024
const MAX_LAYER_BYTES = 2 ** 40
const size = (max: number) => z.int().min(1).max(max)
const positive = z
  .number()
  .positive()
  .lt(2 ** 40)

const Sha256 = z.string().regex(/^[0-9a-f]{64}$/, 'is not a SHA-256 in lower-case hex')
const Blob = (maxBytes: number) => z.strictObject({ sha256: Sha256, bytes: size(maxBytes) })

const Rope = z.strictObject({
  theta: positive,
  scaling: z
    .discriminatedUnion('type', [
      z.strictObject({ type: z.literal('linear'), factor: positive }),
      z.strictObject({
        type: z.literal('llama3'),
        factor: positive,
        lowFreqFactor: positive,
        highFreqFactor: positive,
        originalContextLength: size(2 ** 30)
      })
    ])
    .exactOptional()
})

/** Bounds of a blueprint: far above any real model, far below what breaks arithmetic. */
export const ShapeSchema = z
  .strictObject({
    architecture: z.string().regex(/^[a-z][a-z0-9_-]{0,31}$/, 'is not an architecture name'),
    decoderLayers: size(MAX_DECODER_LAYERS),
    hiddenSize: size(2 ** 16),
    ffnSize: size(2 ** 18),
    heads: size(1024),
    kvHeads: size(1024),
    headSize: size(1024),
    vocabSize: size(2 ** 21),
    contextLength: size(2 ** 26),
    normEpsilon: z.number().positive().lt(1),
    rope: Rope
  })
  .refine(s => s.heads % s.kvHeads === 0, { error: 'heads is not a multiple of kvHeads' })
  .refine(s => s.headSize % 2 === 0, { error: 'headSize is odd: rotary embedding needs pairs' })

const Tensor = z.strictObject({
  name: z.string().regex(/^[a-z_]{1,32}(\.weight|\.scales|\.shifts)?$/, 'is not a tensor name'),
  type: z.enum(['float32', 'uint8']),
  shape: z
    .array(size(2 ** 21))
    .min(1)
    .max(3),
  offset: z.int().min(0).max(MAX_LAYER_BYTES).multipleOf(64),
  bytes: size(MAX_LAYER_BYTES),
  quantization: z
    .strictObject({
      bits: z.literal([4, 8]),
      blockSize: z.literal([16, 32, 64, 128, 256]),
      shifted: z.literal(true).exactOptional()
    })
    .exactOptional()
})

const Layer = z.strictObject({
  sha256: Sha256,
  bytes: size(MAX_LAYER_BYTES),
  kind: z.enum(['embedding', 'decoder', 'head']),
  tensors: z.array(Tensor).min(1).max(24)
})

const FileName = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9_-]{0,47}(\.[a-z0-9]{1,8})?$/, 'is not a file name')

/** What a manifest looks like; what its parts have to do with each other is checked by parseManifest. */
export const ManifestSchema = z.strictObject({
  version: z.literal(1),
  shape: ShapeSchema,
  precision: z.enum(['float32', 'q8', 'q4']),
  layers: z
    .array(Layer)
    .min(3)
    .max(MAX_DECODER_LAYERS + 2),
  files: z.record(FileName, Blob(MAX_SIDE_FILE_BYTES)).refine(f => Object.keys(f).length <= 16, {
    error: 'has more than 16 files'
  }),
  bosTokenId: z.int().min(0).exactOptional(),
  eosTokenIds: z.array(z.int().min(0)).max(64)
})
