import { parentPort, workerData } from 'node:worker_threads'
import { GgufFile } from '../formats/gguf.ts'
import type { BlobRef, TensorEntry } from '../manifest.ts'
import { BlobWriter } from '../store/blob-file.ts'
import { GgufWeights } from './gguf-weights.ts'
import { HuggingFaceWeights } from './hugging-face-weights.ts'
import type { PlannedLayer } from './layer-plan.ts'
import { Scratch, writeLayer } from './layer-writer.ts'
import { type PlainError, toPlain } from './plain-error.ts'
import { QuantizedWeights } from './quantization/weights.ts'
import type { SourceOrigin, WeightSource } from './weights.ts'

/** What a thread is started with. */
export interface LayerWorkerData {
  origin: SourceOrigin
  file: string
}

/** A layer to write, and where. */
export interface LayerTask {
  index: number
  layer: PlannedLayer
  path: string
}

export interface WrittenLayer {
  ref: BlobRef
  tensors: TensorEntry[]
}

/** What is answered to a task, or to 'flush': that all files are on the disk. */
export type LayerAnswer = WrittenLayer | 'flushed' | { error: PlainError }

const { origin, file } = workerData as LayerWorkerData
const scratch = new Scratch()
const opening = openSource(origin)
// Awaited by every task.
opening.catch(() => {})

/** The file before, on its way to the disk while the next one is written. */
let finishing: Promise<void> = Promise.resolve()

parentPort!.on('message', async (task: LayerTask | 'flush') => {
  try {
    if (task !== 'flush') return answer(await write(task))
    await finishing
    answer('flushed')
  } catch (error) {
    answer({ error: toPlain(error) })
  }
})

async function write({ layer, path }: LayerTask): Promise<WrittenLayer> {
  const writer = await BlobWriter.create(path)
  const tensors = await writeLayer(writer, layer, { source: await opening, file, scratch })
  await finishing
  finishing = writer.finish()
  // Waited for before the next file ends, and at the latest by 'flush'.
  finishing.catch(() => {})
  return { ref: writer.ref(), tensors }
}

function answer(message: LayerAnswer): void {
  parentPort!.postMessage(message)
}

async function openSource(from: SourceOrigin): Promise<WeightSource> {
  if (from.format === 'gguf') return new GgufWeights(await GgufFile.reopen(from.table))
  const weights = await HuggingFaceWeights.open(from.dir, from.transposed)
  return from.quantization === undefined ? weights : await QuantizedWeights.of(weights, from.quantization)
}
