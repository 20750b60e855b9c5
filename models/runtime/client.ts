import { availableParallelism } from 'node:os'
import type { ByTimedKind } from '../blocks.ts'
import { logger } from '../log.ts'
import type { ModelShape, Quantization } from '../manifest.ts'
import { RuntimeStoppedError } from './errors.ts'
import type { ProfileSpec } from './layer-probe.ts'
import { MAX_PARTS, PART_BYTES } from './memory.ts'
import type { Answers, Call, WorkerSetup } from './messages.ts'
import { PartedShard } from './parted-shard.ts'
import { partsOf } from './parts.ts'
import type { DetailedTimes, LayerTimes, Runtime, Shard, ShardSpec } from './runtime.ts'
import { WorkerShard } from './shard-client.ts'
import { unlessAborted } from './unless-aborted.ts'
import { WorkerLink } from './worker-link.ts'

const log = logger('edgeshard:runtime')

export interface RuntimeInit {
  /**
   * Threads that compute one step.
   *
   * @default the number of processors available
   */
  threads?: number
  /**
   * Microseconds that a thread without work spins before it sleeps: faster where this is the only node of its machine,
   * slower for all where it is not. See Threading in onnx/session.ts.
   *
   * @default 0
   */
  spinUs?: number
  /**
   * Weights are loaded in as many parts at once as there are threads, up to MAX_PARTS, but in none of fewer bytes. Memory
   * is counted for the default.
   *
   * @default PART_BYTES
   */
  partBytes?: number
}

const MAX_SPIN_US = 100_000

/** Starts a runtime; resolves when its first worker thread answers. */
export async function startRuntime(init: RuntimeInit = {}): Promise<Runtime> {
  const threads = init.threads ?? availableParallelism()
  if (!Number.isInteger(threads) || threads < 1 || threads > 1024) {
    throw new RangeError(`${threads} is not a number of threads`)
  }
  const spinUs = init.spinUs ?? 0
  if (!Number.isInteger(spinUs) || spinUs < 0 || spinUs > MAX_SPIN_US) {
    throw new RangeError(`${spinUs} is not in 0..${MAX_SPIN_US} microseconds of spinning`)
  }
  const runtime = new WorkerRuntime({ threads, spinUs }, init.partBytes ?? PART_BYTES)
  await runtime.start()
  return runtime
}

/**
 * A worker thread for each shard, and for each profile while it is measured: ONNX Runtime holds a thread while it loads
 * weights, too, and answers that are being generated on other shards must not wait for that.
 */
class WorkerRuntime implements Runtime {
  readonly #setup: WorkerSetup
  readonly #partBytes: number
  readonly #links = new Set<WorkerLink>()
  /** A worker that holds nothing, for the next shard or profile. */
  #spare: WorkerLink | undefined
  #stopped = false

  constructor(setup: WorkerSetup, partBytes: number) {
    this.#setup = setup
    this.#partBytes = partBytes
  }

  async start(): Promise<void> {
    const link = this.#take()
    await link.online
    this.#spare = link
  }

  async load(
    spec: ShardSpec,
    { signal, onProgress }: { signal?: AbortSignal; onProgress?: (fraction: number) => void } = {}
  ): Promise<Shard> {
    const { manifest, range } = spec
    const ranges = isInside(manifest, range)
      ? partsOf(manifest, range, {
          count: Math.min(this.#setup.threads, MAX_PARTS),
          leastBytes: this.#partBytes
        })
      : [range]
    if (ranges.length === 1) {
      const shard = await this.#loadPart(spec, signal)
      onProgress?.(1)
      return shard
    }
    const failed = new AbortController()
    const either = signal === undefined ? failed.signal : AbortSignal.any([signal, failed.signal])
    let done = 0
    const parts = await Promise.allSettled(
      ranges.map(async range => {
        try {
          const part = await this.#loadPart({ ...spec, range }, either)
          onProgress?.(++done / ranges.length)
          return part
        } catch (error) {
          failed.abort(error)
          throw error
        }
      })
    )
    const loaded = parts.flatMap(part => (part.status === 'fulfilled' ? [part.value] : []))
    if (loaded.length === parts.length) return new PartedShard(loaded)
    await Promise.all(loaded.map(part => part.release()))
    throw either.reason
  }

  async #loadPart(
    { manifest, range, blobsDir, lanes = 1 }: ShardSpec,
    signal: AbortSignal | undefined
  ): Promise<Shard> {
    signal?.throwIfAborted()
    const link = this.#take()
    const give = () => this.#give(link)
    const id = link.nextId()
    const loaded = link.call({ op: 'load', shard: id, spec: { manifest, range, blobsDir, lanes } })
    const discard = async () => {
      await link
        .call({ op: 'release', shard: id })
        .catch(
          log.passOver('releasing a shard that nobody wants failed; a worker that has ended holds nothing')
        )
      await give()
    }
    await unlessAborted(loaded, signal, discard, give)
    return new WorkerShard(link, id, { manifest, range }, give)
  }

  async profile(
    shape: ModelShape,
    quantization?: Quantization,
    { signal, thorough = false }: { signal?: AbortSignal; thorough?: boolean } = {}
  ): Promise<ByTimedKind<LayerTimes>> {
    const spec = { ...profileSpec(shape, quantization), thorough }
    return await this.#measure(unwanted => ({ op: 'profile', spec, unwanted }), signal)
  }

  async profileInDetail(
    shape: ModelShape,
    quantization?: Quantization,
    { signal }: { signal?: AbortSignal } = {}
  ): Promise<ByTimedKind<DetailedTimes>> {
    const spec = profileSpec(shape, quantization)
    return await this.#measure(unwanted => ({ op: 'profileInDetail', spec, unwanted }), signal)
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await Promise.all([...this.#links].map(link => link.stop()))
    this.#links.clear()
  }

  async #measure<C extends Call>(
    callWith: (unwanted: Int32Array<SharedArrayBuffer>) => C,
    signal: AbortSignal | undefined
  ): Promise<Answers[C['op']]> {
    signal?.throwIfAborted()
    const link = this.#take()
    const give = () => this.#give(link)
    const unwanted = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
    const stop = () => void Atomics.store(unwanted, 0, 1)
    signal?.addEventListener('abort', stop, { once: true })
    try {
      const result = await unlessAborted(link.call(callWith(unwanted)), signal, give, give)
      await give()
      return result
    } finally {
      signal?.removeEventListener('abort', stop)
    }
  }

  #take(): WorkerLink {
    if (this.#stopped) throw new RuntimeStoppedError('the runtime was stopped')
    const spare = this.#spare
    this.#spare = undefined
    if (spare !== undefined && spare.ended === undefined) return spare
    const link = new WorkerLink(this.#setup)
    this.#links.add(link)
    return link
  }

  /** Takes back a worker that holds nothing any more: one is kept. */
  async #give(link: WorkerLink): Promise<void> {
    if (
      !this.#stopped &&
      link.ended === undefined &&
      (this.#spare === undefined || this.#spare.ended !== undefined)
    ) {
      this.#spare = link
      return
    }
    this.#links.delete(link)
    await link.stop()
  }
}

/** False where the worker that gets it will say what is wrong with the range. */
function isInside({ layers }: ShardSpec['manifest'], [start, end]: ShardSpec['range']): boolean {
  return Number.isInteger(start) && Number.isInteger(end) && 0 <= start && start < end && end <= layers.length
}

function profileSpec(shape: ModelShape, quantization: Quantization | undefined): ProfileSpec {
  return quantization === undefined ? { shape } : { shape, quantization }
}
