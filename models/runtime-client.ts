import { availableParallelism } from 'node:os'
import type { ProfileSpec } from './layer-probe.ts'
import type { LayerKind } from './layers.ts'
import type { ModelShape, Quantization } from './manifest.ts'
import type { DetailedTimes, LayerTimes, Runtime, Shard, ShardSpec } from './runtime.ts'
import { WorkerShard } from './shard-client.ts'
import { WorkerLink } from './worker-link.ts'

export interface RuntimeInit {
  /**
   * Threads that compute one step.
   *
   * @default the number of processors available
   */
  threads?: number
  /**
   * Microseconds that a thread without work spins before it sleeps: faster where this is the only node of its machine,
   * slower for everybody where it is not. See Threading in onnx/session.ts.
   *
   * @default 0
   */
  spinUs?: number
}

const MAX_SPIN_US = 100_000

/** Starts the worker thread that computes; resolves when it answers. */
export async function startRuntime(init: RuntimeInit = {}): Promise<Runtime> {
  const threads = init.threads ?? availableParallelism()
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new RangeError(`${threads} is not a number of threads`)
  }
  const spinUs = init.spinUs ?? 0
  if (!Number.isInteger(spinUs) || spinUs < 0 || spinUs > MAX_SPIN_US) {
    throw new RangeError(`${spinUs} is not in 0..${MAX_SPIN_US} microseconds of spinning`)
  }
  const link = new WorkerLink({ threads, spinUs })
  await link.online
  return new WorkerRuntime(link)
}

class WorkerRuntime implements Runtime {
  readonly #link: WorkerLink

  constructor(link: WorkerLink) {
    this.#link = link
  }

  async load(
    spec: ShardSpec,
    options: { signal?: AbortSignal; onProgress?: (fraction: number) => void } = {}
  ): Promise<Shard> {
    options.signal?.throwIfAborted()
    const id = this.#link.nextId()
    const { manifest, range, blobsDir } = spec
    const loaded = this.#link.call({ op: 'load', shard: id, spec: { manifest, range, blobsDir } })
    await unlessAborted(loaded, options.signal, () => void this.#release(id))
    options.onProgress?.(1)
    return new WorkerShard(this.#link, id, spec)
  }

  async profile(
    shape: ModelShape,
    quantization?: Quantization,
    { signal }: { signal?: AbortSignal } = {}
  ): Promise<Record<LayerKind, LayerTimes>> {
    signal?.throwIfAborted()
    const spec = profileSpec(shape, quantization)
    return await unlessAborted(this.#link.call({ op: 'profile', spec }), signal, () => undefined)
  }

  async profileInDetail(
    shape: ModelShape,
    quantization?: Quantization,
    { signal }: { signal?: AbortSignal } = {}
  ): Promise<Record<LayerKind, DetailedTimes>> {
    signal?.throwIfAborted()
    const spec = profileSpec(shape, quantization)
    return await unlessAborted(this.#link.call({ op: 'profileInDetail', spec }), signal, () => undefined)
  }

  stop(): Promise<void> {
    return this.#link.stop()
  }

  async #release(shard: number): Promise<void> {
    await this.#link.call({ op: 'release', shard }).catch(() => undefined)
  }
}

function profileSpec(shape: ModelShape, quantization: Quantization | undefined): ProfileSpec {
  return quantization === undefined ? { shape } : { shape, quantization }
}

/** The promise, or the signal's reason when that comes first; then `undo` runs once the promise has settled well. */
async function unlessAborted<T>(
  promise: Promise<T>,
  signal: AbortSignal | undefined,
  undo: () => void
): Promise<T> {
  if (signal === undefined) return promise
  const { promise: aborted, reject } = Promise.withResolvers<never>()
  const onAbort = () => {
    promise.then(undo, () => undefined)
    reject(signal.reason)
  }
  signal.addEventListener('abort', onAbort, { once: true })
  try {
    return await Promise.race([promise, aborted])
  } finally {
    signal.removeEventListener('abort', onAbort)
  }
}
