import { logger } from '../../models/log.ts'
import type { Runtime, Shard, ShardSpec } from '../../models/runtime/runtime.ts'

const log = logger('edgeshard:stage')

/** How long a shard that was loaded ahead waits for the request that it was loaded for. */
export const LOAD_AHEAD_MS = 30_000

interface Ahead {
  spec: ShardSpec
  loading: Promise<Shard>
  timer: NodeJS.Timeout
}

/**
 * A runtime that may load one shard before it is asked for: a device that is started to answer one prompt reads its
 * weights while the rest of the node starts. The first load takes it over, or, wanting another one, has it released
 * first, so that never more is loaded than what was asked for.
 */
export class LoadAhead implements Pick<Runtime, 'load'> {
  readonly #runtime: Pick<Runtime, 'load'>
  #ahead: Ahead | undefined

  constructor(runtime: Pick<Runtime, 'load'>) {
    this.#runtime = runtime
  }

  /** True from `begin` until somebody has taken the shard, or nobody wanted it. */
  get waits(): boolean {
    return this.#ahead !== undefined
  }

  begin(spec: ShardSpec): void {
    const loading = this.#runtime.load(spec)
    // Whoever takes it hears of it.
    loading.catch(() => {})
    const timer = setTimeout(() => void this.#discard(), LOAD_AHEAD_MS).unref()
    this.#ahead = { spec, loading, timer }
  }

  async load(spec: ShardSpec, options: Parameters<Runtime['load']>[1] = {}): Promise<Shard> {
    const ahead = this.#ahead
    if (ahead === undefined) return await this.#runtime.load(spec, options)
    if (!isSame(ahead.spec, spec)) {
      await this.#discard()
      return await this.#runtime.load(spec, options)
    }
    this.#forget(ahead)
    options.signal?.throwIfAborted()
    const shard = await ahead.loading
    options.onProgress?.(1)
    return shard
  }

  async #discard(): Promise<void> {
    const ahead = this.#ahead
    if (ahead === undefined) return
    this.#forget(ahead)
    const shard = await ahead.loading.catch(log.passOver('what was loaded ahead in vain could not be loaded'))
    await shard?.release()
  }

  #forget({ timer }: Ahead): void {
    clearTimeout(timer)
    this.#ahead = undefined
  }
}

function isSame(one: ShardSpec, other: ShardSpec): boolean {
  const files = ({ manifest, range: [start, end] }: ShardSpec) =>
    [start, end, ...manifest.layers.slice(start, end).map(({ sha256 }) => sha256)].join(' ')
  return one.blobsDir === other.blobsDir && files(one) === files(other)
}
