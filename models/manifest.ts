import { createHash } from 'node:crypto'
import { ManifestError } from './errors.ts'
import { type LayerKind, layerKind } from './layers.ts'
import { ManifestSchema, ShapeSchema } from './manifest-schema.ts'
import { checkTensors } from './tensors.ts'

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
    /** These three only, and always, with `llama3`. */
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
 * One tensor inside a layer's file, named as models/tensors.ts says. Projections are stored [out, in] as the
 * checkpoint has them (float32), or in blocks along `in`: `<name>.weight` as uint8 (out, ceil(in / blockSize),
 * blockSize * bits / 8), the lower bits first, zero point 2^(bits - 1), and `<name>.scales` as float32 (out,
 * ceil(in / blockSize)). What a last block has beyond `in` is the zero point. Where blocks are shifted, `<name>.shifts`
 * follows, as float32 (out, in / blockSize): it is added to each weight of its block.
 */
export interface TensorEntry {
  name: string
  type: 'float32' | 'uint8'
  shape: number[]
  /** Where the tensor starts in the layer's file, a multiple of 64. */
  offset: number
  bytes: number
  /** Only for quantised weights. */
  quantization?: Quantization
}

/** How the weights of one projection are packed. */
export interface Quantization {
  bits: 4 | 8
  /** Weights along `in` that share a scale: 16, 32, 64, 128 or 256. */
  blockSize: number
  /** Blocks have a shift beside their scale, as GGUF types with a minimum need; they divide `in`. */
  shifted?: true
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

/** The largest manifest that is read: 1,026 layers of 12 tensors take a third of it. */
export const MAX_MANIFEST_BYTES = 8 * 1024 * 1024

/**
 * Reads a manifest that a file or a peer hands over, trusting nothing in it: afterwards every tensor lies inside its
 * file, has the size that the model's shape gives it, and no name can leave the store.
 *
 * @throws {ManifestError} saying which field is wrong.
 */
export function parseManifest(bytes: Uint8Array): Manifest {
  if (bytes.byteLength > MAX_MANIFEST_BYTES) {
    throw new ManifestError(
      `manifest has ${bytes.byteLength} bytes, more than the limit of ${MAX_MANIFEST_BYTES}`
    )
  }
  let json: unknown
  try {
    json = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (error) {
    throw new ManifestError('manifest is not JSON', { cause: error })
  }
  const parsed = ManifestSchema.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw new ManifestError(`manifest: ${issue.path.map(String).join('.') || 'document'}: ${issue.message}`)
  }
  const manifest: Manifest = parsed.data
  checkLayers(manifest)
  checkTokens(manifest)
  if (Buffer.compare(serializeManifest(manifest), bytes) !== 0) {
    throw new ManifestError('manifest is not in the canonical form that its id is taken of')
  }
  return manifest
}

/**
 * Checks the blueprint alone.
 *
 * @throws {ManifestError} saying which number is out of bounds.
 */
export function checkShape(shape: ModelShape): void {
  const parsed = ShapeSchema.safeParse(shape)
  if (parsed.success) return
  const issue = parsed.error.issues[0]!
  throw new ManifestError(`${issue.path.map(String).join('.') || 'shape'}: ${issue.message}`)
}

/** The one way to write a manifest, so that equal models have equal ids. */
export function serializeManifest(manifest: Manifest): Uint8Array {
  const { shape } = manifest
  const canonical = {
    version: manifest.version,
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
      rope: { theta: shape.rope.theta, scaling: canonicalScaling(shape.rope.scaling) }
    },
    precision: manifest.precision,
    layers: manifest.layers.map(layer => ({
      sha256: layer.sha256,
      bytes: layer.bytes,
      kind: layer.kind,
      tensors: layer.tensors.map(t => ({
        name: t.name,
        type: t.type,
        shape: t.shape,
        offset: t.offset,
        bytes: t.bytes,
        quantization: t.quantization && {
          bits: t.quantization.bits,
          blockSize: t.quantization.blockSize,
          shifted: t.quantization.shifted
        }
      }))
    })),
    files: Object.fromEntries(
      Object.entries(manifest.files)
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([name, ref]) => [name, { sha256: ref.sha256, bytes: ref.bytes }])
    ),
    bosTokenId: manifest.bosTokenId,
    eosTokenIds: manifest.eosTokenIds
  }
  return new TextEncoder().encode(JSON.stringify(canonical))
}

/** The model's id: SHA-256 of the manifest's bytes, in hex. */
export function modelId(manifestBytes: Uint8Array): string {
  return createHash('sha256').update(manifestBytes).digest('hex')
}

function canonicalScaling(scaling: RopeSpec['scaling']) {
  return (
    scaling && {
      type: scaling.type,
      factor: scaling.factor,
      lowFreqFactor: scaling.lowFreqFactor,
      highFreqFactor: scaling.highFreqFactor,
      originalContextLength: scaling.originalContextLength
    }
  )
}

function checkLayers({ shape, layers }: Manifest): void {
  if (layers.length !== shape.decoderLayers + 2) {
    throw new ManifestError(
      `manifest: ${layers.length} layers listed, ${shape.decoderLayers} decoder layers and two more expected`
    )
  }
  for (const [index, layer] of layers.entries()) {
    const kind = layerKind(index, shape.decoderLayers)
    if (layer.kind !== kind) {
      throw new ManifestError(`manifest: layer ${index} is called ${layer.kind}, expected ${kind}`)
    }
    try {
      checkTensors(layer, shape)
    } catch (error) {
      throw new ManifestError(`manifest: layer ${index}: ${(error as Error).message}`)
    }
  }
}

function checkTokens({ shape, bosTokenId, eosTokenIds }: Manifest): void {
  for (const id of bosTokenId === undefined ? eosTokenIds : [bosTokenId, ...eosTokenIds]) {
    if (id >= shape.vocabSize) {
      throw new ManifestError(`manifest: token id ${id} is outside the vocabulary of ${shape.vocabSize}`)
    }
  }
}
