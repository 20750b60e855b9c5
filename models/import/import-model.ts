import { stat } from 'node:fs/promises'
import { CheckpointError } from '../errors.ts'
import { identityOf, standIn, startOf } from '../formats/files.ts'
import { isGguf } from '../formats/gguf.ts'
import {
  type BlobRef,
  type LayerFile,
  type Manifest,
  type Precision,
  serializeManifest
} from '../manifest.ts'
import type { StoredModel } from '../store/catalog.ts'
import type { ModelStore } from '../store/store.ts'
import type { Architecture } from './architectures/architecture.ts'
import type { Checkpoint } from './checkpoint.ts'
import { openGguf } from './gguf.ts'
import { guessingNotices } from './guessing-layers.ts'
import { planGuessing } from './guessing-plan.ts'
import { openHuggingFace } from './hugging-face.ts'
import { type LayerPlanOptions, planLayers } from './layer-plan.ts'
import { type Alternative, costNotices } from './store-cost.ts'
import { checkTokenizer } from './tokenizer-check.ts'
import type { WeightSource } from './weights.ts'
import { writeLayers } from './write-layers.ts'

/** What to round projections to: nothing (the checkpoint's own values, whatever they take), 8 or 4 bits. */
export type QuantizeMode = 'none' | 'q8' | 'q4'

/**
 * Weights that share a scale, by mode: decode is bound by the bytes read, and blocks of 128 have the fewest (4.5 bits a
 * weight after packing, where blocks of 64 have 5 and of 32 have 6). Perplexity of stories260K, whose rows of 64 are the
 * hardest case: float32 6.048, q8 6.063, q4 6.655 in blocks of 32 and 6.866 in blocks of 64 (llama.cpp's Q4_0: 6.803).
 */
export const BLOCK_SIZES = { q8: 128, q4: 128 } as const

/** Ways to import that are shown where the store takes clearly more than the file; smaller blocks lose less. */
const ALTERNATIVES: readonly Alternative[] = [
  { mode: 'q8', quantize: { bits: 8, blockSize: BLOCK_SIZES.q8 } },
  { mode: 'q4 --block 32', quantize: { bits: 4, blockSize: 32 } },
  { mode: 'q4', quantize: { bits: 4, blockSize: BLOCK_SIZES.q4 } }
]

export interface ImportOptions {
  name: string
  /** @default the own values, where they take no more than some 2.75 times the bytes of the file */
  quantize?: QuantizeMode
  /** @default BLOCK_SIZES */
  blockSize?: number
  /**
   * Keeps the first of the layers that guess further tokens, which only devices that draft with it need (models/guessing.ts).
   *
   * @default false
   */
  mtp?: boolean | undefined
  /** Threads that write layers. @default one for each core, up to four; 1 for a small model */
  threads?: number
  /** Loads the tokenizer once, so that a model that cannot be prompted is refused. @default true */
  checkTokenizer?: boolean
  /** What can be read. @default ARCHITECTURES */
  architectures?: readonly Architecture[]
  signal?: AbortSignal
  /** Called with a sentence for what the user should know of a model that is taken. */
  onNotice?: (notice: string) => void
  /** Called after every layer. */
  onProgress?: (layersDone: number, layers: number) => void
}

/**
 * Brings a Hugging Face folder or a GGUF file into the store, a few rows at a time. Until the last layer is written the
 * store is as it was, also when the process dies.
 *
 * @throws {UnsupportedModelError} for what cannot be computed; {CheckpointError} for what is damaged, naming the file;
 * {StoreError} when the store cannot be written.
 */
export async function importModel(
  path: string,
  store: ModelStore,
  options: ImportOptions
): Promise<StoredModel> {
  const checkpoint = await openCheckpoint(path, options.architectures)
  try {
    return await importCheckpoint(checkpoint, store, options)
  } finally {
    await checkpoint.source.close()
  }
}

async function openCheckpoint(path: string, architectures?: readonly Architecture[]): Promise<Checkpoint> {
  const found = await stat(path).catch(error => {
    throw new CheckpointError(path, `cannot be read (${(error as NodeJS.ErrnoException).code ?? error})`, {
      cause: error
    })
  })
  if (found.isDirectory()) return await openHuggingFace(path, architectures)
  const start = await startOf(path)
  if (isGguf(start)) return await openGguf(path, architectures)
  throw new CheckpointError(
    path,
    standIn(start) ?? 'is neither a GGUF file nor a folder with config.json and model.safetensors'
  )
}

async function importCheckpoint(
  checkpoint: Checkpoint,
  store: ModelStore,
  options: ImportOptions
): Promise<StoredModel> {
  const { config, files, file, source } = checkpoint
  const planned = planOptions(checkpoint, options)
  const plan = planLayers(planned)
  const guessing = options.mtp ? planGuessing(checkpoint, planned) : undefined
  const all = guessing === undefined ? plan : [...plan, guessing.layer]
  for (const notice of await costNotices(plan, checkpoint, planned, ALTERNATIVES)) options.onNotice?.(notice)
  await store.requireSpace(all.reduce((sum, layer) => sum + layer.bytes, 0))
  await using draft = await store.draft()
  const { signal, onProgress, threads } = options
  // Loaded while layers are written: it costs no time then, and ends the writing when it fails.
  const refused = new AbortController()
  const checked =
    options.checkTokenizer === false
      ? undefined
      : checkTokenizer(checkpoint).then(
          found => checkpoint.notices.push(...found),
          error => refused.abort(error)
        )
  const written = await writeLayers(draft, all, {
    source,
    file,
    signal: AbortSignal.any(signal === undefined ? [refused.signal] : [signal, refused.signal]),
    ...(threads && { threads }),
    ...(onProgress && { onProgress })
  }).finally(() => checked)
  refused.signal.throwIfAborted()
  const layers = written.slice(0, plan.length)
  const guesses = guessing && { block: guessing.block, layer: written.at(-1)! }
  checkpoint.notices.push(...guessingNotices(checkpoint.guessing, guessing?.layer.bytes))
  await checkUnchanged(source)
  const sideFiles: Record<string, BlobRef> = {}
  for (const [name, bytes] of files) sideFiles[name] = await draft.addBytes(bytes)
  const manifest: Manifest = {
    version: 2,
    shape: config.shape,
    precision: precisionOf(layers),
    layers,
    files: sideFiles,
    ...(config.bosTokenId === undefined ? {} : { bosTokenId: config.bosTokenId }),
    eosTokenIds: config.eosTokenIds ?? [],
    ...(config.pooling && { pooling: config.pooling }),
    ...(guesses && { guessing: guesses })
  }
  options.signal?.throwIfAborted()
  for (const notice of checkpoint.notices) options.onNotice?.(notice)
  const id = await draft.commit(options.name, serializeManifest(manifest))
  return { name: options.name, id, manifest }
}

/** @throws {CheckpointError} naming a file that was written to, or replaced, since it was opened. */
async function checkUnchanged({ files }: WeightSource): Promise<void> {
  for (const { path, identity } of files) {
    if ((await identityOf(path)) === identity) continue
    throw new CheckpointError(
      path,
      'was changed while it was imported: import it again when nothing writes to it any more'
    )
  }
}

/** How a checkpoint's layers are to be planned. */
export function planOptions(
  checkpoint: Checkpoint,
  options: Pick<ImportOptions, 'quantize' | 'blockSize'> = {}
): LayerPlanOptions {
  const { file, config, naming, interleaved, byTurns, source, dropped } = checkpoint
  const mode = options.quantize
  return {
    source,
    file,
    naming,
    interleaved,
    byTurns,
    dropped,
    shape: config.shape,
    folds: config.folds,
    keysAreValues: config.keysAreValues,
    tied: config.tied,
    ...(mode === undefined || mode === 'none'
      ? { exact: mode === 'none' }
      : { quantize: { bits: mode === 'q8' ? 8 : 4, blockSize: options.blockSize ?? BLOCK_SIZES[mode] } })
  }
}

/** A model's precision is that of its largest projections. */
function precisionOf(layers: LayerFile[]): Precision {
  const bits = layers[1]!.tensors.find(t => /^(expert_)?gate_up\.weight$/.test(t.name))?.quantization?.bits
  return bits === undefined ? 'float32' : bits === 8 ? 'q8' : 'q4'
}
