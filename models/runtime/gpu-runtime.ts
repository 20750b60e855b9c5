import type { ByTimedKind } from '../blocks.ts'
import type { LayerRange } from '../layers.ts'
import { logger } from '../log.ts'
import type { ModelShape, Quantization } from '../manifest.ts'
import { RuntimeStoppedError } from './errors.ts'
import { GpuLink, type GpuLinkInit } from './gpu-link.ts'
import { contextsKey } from './long-contexts.ts'
import type { LayerTimes, Runtime, Shard, ShardSpec } from './runtime.ts'
import { WorkerShard } from './shard-client.ts'
import { unlessAborted } from './unless-aborted.ts'
import { warmUp } from './warm-up.ts'

const log = logger('edgeshard:runtime')

/**
 * The GPU of this device: one process, which all shards share, started for the first of them. One that has ended is
 * replaced at the next load; what it held is lost.
 */
export class GpuRuntime implements Pick<Runtime, 'load' | 'profile' | 'stop'> {
  readonly #init: GpuLinkInit
  #link: GpuLink | undefined
  #stopped = false
  /** Kinds of attention whose long contexts are right there. */
  readonly #checked = new Set<string>()

  constructor(init: GpuLinkInit) {
    this.#init = init
  }

  /** The process, while one runs. */
  get pid(): number | undefined {
    return this.#link?.pid
  }

  /** @throws {GpuUnavailableError} where there is no GPU to be used */
  async start(): Promise<void> {
    await this.#process().online
  }

  /** @throws {GpuUnavailableError} where there is no GPU to be used, and as `Runtime.load` */
  async load(
    { manifest, range, blobsDir, lanes = 1 }: ShardSpec,
    { signal, onProgress }: { signal?: AbortSignal; onProgress?: (fraction: number) => void } = {}
  ): Promise<Shard> {
    signal?.throwIfAborted()
    const link = this.#process()
    await link.online
    await this.#checkContexts(link, manifest.shape, range, signal)
    const id = link.nextId()
    const loaded = link.call({ op: 'load', shard: id, spec: { manifest, range, blobsDir, lanes } })
    const discard = async () => {
      const unsaid = log.passOver(
        'releasing a shard that nobody wants failed; a process that ended holds none'
      )
      await link.call({ op: 'release', shard: id }).catch(unsaid)
    }
    await unlessAborted(loaded, signal, discard, async () => undefined)
    const shard = new WorkerShard(link, id, { manifest, range }, async () => undefined)
    try {
      await unlessAborted(
        warmUp(shard),
        signal,
        async () => undefined,
        async () => undefined
      )
    } catch (error) {
      await shard.release()
      throw error
    }
    onProgress?.(1)
    return shard
  }

  /** Before anything is held there; once for each kind of attention, for the driver stays what it is. */
  async #checkContexts(
    link: GpuLink,
    shape: ModelShape,
    range: LayerRange,
    signal: AbortSignal | undefined
  ): Promise<void> {
    const key = contextsKey(shape, range)
    if (this.#checked.has(key)) return
    const checked = link.call({ op: 'checkContexts', shape, range })
    await unlessAborted(
      checked,
      signal,
      async () => undefined,
      async () => undefined
    )
    this.#checked.add(key)
  }

  async profile(shape: ModelShape, quantization?: Quantization): Promise<ByTimedKind<LayerTimes>> {
    const spec = quantization === undefined ? { shape } : { shape, quantization }
    // Nobody can take it back: processes share no memory. Who does not want it any more ends the process.
    const unwanted = new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT))
    return await this.#process().call({ op: 'profile', spec, unwanted })
  }

  /**
   * Bytes that can really be allocated at once, up to `most`; in a process that is for nothing else, for a driver that is
   * asked for too much may end it.
   */
  async allocatable(most: number): Promise<number> {
    return await this.#process().call({ op: 'allocatable', most })
  }

  async stop(): Promise<void> {
    this.#stopped = true
    await this.#link?.stop()
  }

  /** Ends the process at once, whatever it does. */
  async kill(): Promise<void> {
    this.#stopped = true
    await this.#link?.kill()
  }

  #process(): GpuLink {
    if (this.#stopped) throw new RuntimeStoppedError('the runtime was stopped')
    if (this.#link === undefined || this.#link.ended !== undefined) this.#link = new GpuLink(this.#init)
    return this.#link
  }
}
