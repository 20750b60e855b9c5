import { createHash } from 'node:crypto'
import { isDeepStrictEqual } from 'node:util'
import { arrangeBlocks, expandBlocks, plainBlock, plainRope } from './blocks.ts'
import { ManifestError } from './errors.ts'
import { checkGuessing } from './guessing.ts'
import { layerKind } from './layers.ts'
import { type Manifest, ManifestSchema, type ModelShape, ShapeSchema } from './manifest-schema.ts'
import { upgradeV1, valueV1 } from './manifest-v1.ts'
import { checkTensors } from './tensors.ts'

export type { Block, RopeSpec } from './block-schema.ts'
export type {
  BlobRef,
  LayerFile,
  Manifest,
  ModelShape,
  Precision,
  Quantization,
  TensorEntry
} from './manifest-schema.ts'

/** The largest manifest that is read: 1,024 layers of 12 tensors take a third of it. */
export const MAX_MANIFEST_BYTES = 8 * 1024 * 1024

/**
 * Reads a manifest that a file or a peer hands over, trusting nothing in it: afterwards every tensor lies inside its
 * file, has the size that the model's shape gives it, every layer computes what is known here, and no name can leave
 * the store.
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
  const manifest = parsed.data.version === 1 ? upgradeV1(parsed.data) : parsed.data
  checkBlocks(manifest.shape)
  checkGuessing(manifest)
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
 * @throws {ManifestError} saying which field is out of bounds or not known.
 */
export function checkShape(shape: ModelShape): void {
  const parsed = ShapeSchema.safeParse(shape)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw new ManifestError(`${issue.path.map(String).join('.') || 'shape'}: ${issue.message}`)
  }
  checkBlocks(shape)
}

/**
 * The one way to write a manifest, so that equal models have equal ids: JSON without white space, the keys of every
 * object sorted (as RFC 8785 has it). Version 1 has an order of its own.
 */
export function serializeManifest(manifest: Manifest): Uint8Array {
  const value = manifest.version === 1 ? valueV1(manifest) : sorted(manifest)
  return new TextEncoder().encode(JSON.stringify(value))
}

/** The model's id: SHA-256 of the manifest's bytes, in hex. */
export function modelId(manifestBytes: Uint8Array): string {
  return createHash('sha256').update(manifestBytes).digest('hex')
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted)
  if (typeof value !== 'object' || value === null) return value
  const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1))
  return Object.fromEntries(entries.map(([key, part]) => [key, sorted(part)]))
}

/** Equal models have equal ids only if there is one way to say which layer is which block. */
function checkBlocks(shape: ModelShape): void {
  const { blocks, layout } = shape
  if (layout.length > shape.decoderLayers || layout.some(number => number >= blocks.length)) {
    throw new ManifestError('shape: layout names blocks or layers that there are not')
  }
  const plain = arrangeBlocks(expandBlocks(shape).map(block => plainBlock(shape, block)))
  if (
    !isDeepStrictEqual({ blocks, layout }, plain) ||
    !isDeepStrictEqual(shape.rope, plainRope(shape.rope, shape.headSize))
  ) {
    throw new ManifestError('shape: blocks and layout are not in their shortest form')
  }
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
      checkTensors(layer, shape, index)
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
