import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import { importModel } from '../../models/import/import-model.ts'
import { type LayerRange, MAX_LAYERS } from '../../models/layers.ts'
import type { Manifest, ModelShape, Quantization } from '../../models/manifest.ts'
import { randomManifest, writeRandomLayer } from '../../models/runtime/random-weights.ts'
import { ModelStore } from '../../models/store/store.ts'

/** The shape of TinyLlama 1.1B. */
export const SHAPE: ModelShape = {
  architecture: 'llama',
  decoderLayers: 22,
  hiddenSize: 2048,
  ffnSize: 5632,
  heads: 32,
  kvHeads: 4,
  headSize: 64,
  vocabSize: 32000,
  contextLength: 2048,
  normEpsilon: 1e-5,
  rope: { theta: 10000 },
  normKind: 'rms',
  blocks: [LLAMA_BLOCK],
  layout: [0]
}

/** The project's own 4 bits, and the blocks that a GGUF file of type Q4_0 keeps. */
export const OWN: Quantization = { bits: 4, blockSize: 128 }
export const Q4_0: Quantization = { bits: 4, blockSize: 32 }

/** A model on the disk, to be measured. */
export interface MeasuredModel extends AsyncDisposable {
  label: string
  manifest: Manifest
  blobsDir: string
}

/**
 * Random weights in the shape above.
 *
 * @param quantization absent: float32
 * @param range layers whose files are written; absent: all
 */
export async function randomModel(
  label: string,
  quantization: Quantization | undefined,
  shape: Partial<ModelShape> = {},
  range: LayerRange = [0, MAX_LAYERS]
): Promise<MeasuredModel> {
  const blobsDir = await mkdtemp(join(tmpdir(), 'edgeshard-bench-'))
  const manifest = randomManifest({ ...SHAPE, ...shape }, quantization)
  for (const file of manifest.layers.slice(...range)) await writeRandomLayer(file, blobsDir)
  return { label, manifest, blobsDir, [Symbol.asyncDispose]: () => rm(blobsDir, { recursive: true }) }
}

/** A checkpoint, imported with its own blocks or rounded to the project's own. */
export async function importedModel(
  label: string,
  path: string,
  quantize: 'none' | 'q4'
): Promise<MeasuredModel> {
  const dir = await mkdtemp(join(tmpdir(), 'edgeshard-bench-'))
  const store = await ModelStore.open(dir)
  const { manifest } = await importModel(path, store, { name: 'measured', quantize })
  const { blobsDir } = store
  return { label, manifest, blobsDir, [Symbol.asyncDispose]: () => rm(dir, { recursive: true }) }
}
