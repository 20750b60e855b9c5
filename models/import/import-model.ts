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
import { type PlannedGuessing, planGuessing } from './guessing-plan.ts'
import { openHuggingFace } from './hugging-face.ts'
import { type LayerPlanOptions, type PlannedLayer, planLayers } from './layer-plan.ts'
import { ALTERNATIVES, blocksOf, type QuantizeMode, type Rounding } from './rounding.ts'
import { offerNotice, reportCost, type StoreOffer } from './store-cost.ts'
import { checkTokenizer } from './tokenizer-check.ts'
import type { WeightSource } from './weights.ts'
import { writeLayers } from './write-layers.ts'

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
  /**
   * Asked before anything is written where the store takes clearly more than the file and nothing was said of rounding:
   * undefined takes the model as planned. Absent: it is taken so, and a notice says what there was to choose.
   */
  choose?: (offer: StoreOffer) => Promise<Rounding | undefined>
  /** What the model takes was said, and chosen, before: no word of it. */
  isCostKnown?: boolean
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
  const chosen = options.isCostKnown ? undefined : await chooseRounding(checkpoint, options)
  const {
    layers: plan,
    guessing,
    all
  } = planAll(checkpoint, planOptions(checkpoint, chosen ?? options), options.mtp)
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

/** What of an import can be said and chosen before the weights are read. */
export type ImportChoices = Pick<ImportOptions, 'quantize' | 'blockSize' | 'mtp' | 'onNotice' | 'choose'>

/** What an import writes: the model's layers, and behind them the one that guesses where that is to be kept. */
interface ImportPlan {
  layers: PlannedLayer[]
  guessing: PlannedGuessing | undefined
  all: PlannedLayer[]
}

/** @throws {UnsupportedModelError} or {CheckpointError} as `planLayers` and `planGuessing` */
function planAll(checkpoint: Checkpoint, options: LayerPlanOptions, mtp = false): ImportPlan {
  const layers = planLayers(options)
  const guessing = mtp ? planGuessing(checkpoint, options) : undefined
  return { layers, guessing, all: guessing === undefined ? layers : [...layers, guessing.layer] }
}

/**
 * Says what a model takes in the store, and at which error, and has its user choose where there is something to choose.
 *
 * @returns what was chosen; undefined: as `options` say.
 * @throws {UnsupportedModelError} or {CheckpointError} as planning and reading do.
 */
export async function chooseRounding(
  checkpoint: Checkpoint,
  options: ImportChoices
): Promise<Rounding | undefined> {
  const { mtp, onNotice, choose } = options
  const { notices, offer } = await reportCost(
    one => planAll(checkpoint, one, mtp).all,
    checkpoint,
    planOptions(checkpoint, options),
    ALTERNATIVES
  )
  for (const notice of notices) onNotice?.(notice)
  if (offer === undefined) return undefined
  if (choose !== undefined) return await choose(offer)
  onNotice?.(offerNotice(offer))
  return undefined
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
      : { quantize: blocksOf({ ...options, quantize: mode }) })
  }
}

/** A model's precision is that of its largest projections. */
function precisionOf(layers: LayerFile[]): Precision {
  const tensors = layers.flatMap(layer => layer.tensors)
  const bits = tensors.find(t => /^(expert_)?(gate_)?up\.weight$/.test(t.name))?.quantization?.bits
  return bits === undefined ? 'float32' : bits === 8 ? 'q8' : 'q4'
}
