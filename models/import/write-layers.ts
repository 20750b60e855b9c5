import { availableParallelism } from 'node:os'
import { Worker } from 'node:worker_threads'
import type { LayerFile } from '../manifest.ts'
import type { ModelDraft } from '../store/draft.ts'
import type { PlannedLayer } from './layer-plan.ts'
import type { LayerAnswer, LayerTask, LayerWorkerData, WrittenLayer } from './layer-worker.ts'
import { Scratch, writeLayer } from './layer-writer.ts'
import { fromPlain } from './plain-error.ts'
import type { WeightSource } from './weights.ts'

/** Below this a thread's start costs more than it saves. */
const MIN_PARALLEL_BYTES = 64 * 1024 * 1024
/** The disk has no use for more. */
const MAX_THREADS = 4

export interface WriteLayersOptions {
  source: WeightSource
  /** What errors call the checkpoint. */
  file: string
  /** @default one for each core, up to four; 1 for a small model */
  threads?: number
  signal?: AbortSignal
  onProgress?: (layersDone: number, layers: number) => void
}

/** Writes all layers of a model into a draft: large models with a thread for each core, up to four. */
export async function writeLayers(
  draft: ModelDraft,
  plan: PlannedLayer[],
  options: WriteLayersOptions
): Promise<LayerFile[]> {
  const threads = Math.min(options.threads ?? defaultThreads(plan), plan.length)
  if (threads > 1) return await writeInParallel(draft, plan, threads, options)
  const { source, file, signal, onProgress } = options
  const scratch = new Scratch()
  const written: LayerFile[] = []
  for (const layer of plan) {
    let tensors: LayerFile['tensors'] = []
    const ref = await draft.add(async writer => {
      tensors = await writeLayer(writer, layer, { source, file, scratch, ...(signal && { signal }) })
    })
    written.push({ kind: layer.kind, ...ref, tensors })
    onProgress?.(written.length, plan.length)
  }
  return written
}

function defaultThreads(plan: PlannedLayer[]): number {
  const bytes = plan.reduce((sum, layer) => sum + layer.bytes, 0)
  return bytes < MIN_PARALLEL_BYTES ? 1 : Math.min(availableParallelism(), MAX_THREADS)
}

async function writeInParallel(
  draft: ModelDraft,
  plan: PlannedLayer[],
  threads: number,
  { source, file, signal, onProgress }: WriteLayersOptions
): Promise<LayerFile[]> {
  // The largest first, so that none of them is what everybody waits for in the end.
  const queue = [...plan.keys()].sort((a, b) => plan[a]!.bytes - plan[b]!.bytes)
  const written: LayerFile[] = new Array(plan.length)
  let done = 0
  const nextTask = (): LayerTask | undefined => {
    const index = queue.pop()
    return index === undefined ? undefined : { index, layer: plan[index]!, path: draft.newPath() }
  }
  const finished = ({ layer, index, path }: LayerTask, { ref, tensors }: WrittenLayer) => {
    draft.stage(path, ref)
    written[index] = { kind: layer.kind, ...ref, tensors }
    onProgress?.(++done, plan.length)
  }
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const abort = () => reject(signal?.reason)
  signal?.throwIfAborted()
  signal?.addEventListener('abort', abort)
  const workers = startWorkers(threads, { origin: source.origin, file })
  try {
    await Promise.race([aborted, Promise.all(workers.map(worker => keepBusy(worker, nextTask, finished)))])
    return written
  } finally {
    signal?.removeEventListener('abort', abort)
    await Promise.all(workers.map(worker => worker.terminate()))
  }
}

function startWorkers(threads: number, workerData: LayerWorkerData): Worker[] {
  // Published code is compiled: the worker's file has the extension that this one has.
  const extension = import.meta.url.endsWith('.ts') ? 'ts' : 'js'
  const url = new URL(`./layer-worker.${extension}`, import.meta.url)
  return Array.from({ length: threads }, () => new Worker(url, { workerData, execArgv: [] }))
}

/** Gives a thread one layer after the other until there is none, then waits until all it wrote is on the disk. */
function keepBusy(
  worker: Worker,
  nextTask: () => LayerTask | undefined,
  finished: (task: LayerTask, written: WrittenLayer) => void
): Promise<void> {
  return new Promise((resolve, reject) => {
    let task: LayerTask | undefined
    const next = () => {
      task = nextTask()
      worker.postMessage(task ?? 'flush')
    }
    worker.on('error', reject)
    worker.on('exit', () => reject(new Error('a thread of the import ended early')))
    worker.on('message', (answer: LayerAnswer) => {
      if (answer === 'flushed') return resolve()
      if ('error' in answer) return reject(fromPlain(answer.error))
      finished(task!, answer)
      next()
    })
    next()
  })
}
