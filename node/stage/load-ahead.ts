import { logger } from '../../models/log.ts'
import type { BlobRef } from '../../models/manifest.ts'
import { weightBytes } from '../../models/runtime/memory.ts'
import type { Runtime, Shard, ShardSpec } from '../../models/runtime/runtime.ts'

const log = logger('edgeshard:stage')

/** How long a shard that was loaded ahead waits for the request that it was loaded for. */
export const LOAD_AHEAD_MS = 30_000
/**
 * Another model of at most this share of its weights is loaded beside it: what drafts for it. What is loaded ahead takes
 * three quarters of the budget at most (LOAD_AHEAD_SHARE), so both have room.
 */
const BESIDE_SHARE = 0.25

interface Ahead {
  spec: ShardSpec
  loading: Promise<Shard>
  timer: NodeJS.Timeout
}

/**
 * A runtime that may load one shard before it is asked for: a device that is started to answer one prompt reads its
 * weights while the rest of the node starts. The first load takes it over, or, wanting another one, has it released
 * first, so that never more is loaded than what was asked for; only a far smaller model is loaded beside it. Files are read ahead before anybody has looked whether they
 * are whole: a load that failed is done again, and what a damaged file was read for is given to nobody.
 */
export class LoadAhead implements Pick<Runtime, 'load'> {
  readonly #runtime: Pick<Runtime, 'load'>
  #ahead: Ahead | undefined
  /** What was loaded in vain is on its way out of memory until this settles. */
  #leaving: Promise<void> = Promise.resolve()

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
    const timer = setTimeout(() => this.#discard(), LOAD_AHEAD_MS).unref()
    this.#ahead = { spec, loading, timer }
  }

  /** These files were found missing or damaged: what they were read for is not to be used. */
  doubt(files: readonly Pick<BlobRef, 'sha256'>[]): void {
    if (this.#ahead === undefined) return
    const { manifest, range } = this.#ahead.spec
    const doubted = new Set(files.map(({ sha256 }) => sha256))
    if (manifest.layers.slice(...range).some(({ sha256 }) => doubted.has(sha256))) this.#discard()
  }

  async load(spec: ShardSpec, options: Parameters<Runtime['load']>[1] = {}): Promise<Shard> {
    options.signal?.throwIfAborted()
    const ahead = this.#ahead
    if (ahead !== undefined && isBeside(spec, ahead.spec)) return await this.#runtime.load(spec, options)
    if (ahead !== undefined && isSame(ahead.spec, spec)) {
      this.#forget(ahead)
      const shard = await ahead.loading.catch(
        log.passOver('what was loaded ahead could not be loaded; it is tried once more')
      )
      if (shard !== undefined) {
        options.onProgress?.(1)
        return shard
      }
    }
    this.#discard()
    await this.#leaving
    return await this.#runtime.load(spec, options)
  }

  #discard(): void {
    const ahead = this.#ahead
    if (ahead === undefined) return
    this.#forget(ahead)
    this.#leaving = ahead.loading
      .then(shard => shard.release())
      .catch(log.passOver('what was loaded ahead in vain could not be loaded, or not be released'))
  }

  #forget({ timer }: Ahead): void {
    clearTimeout(timer)
    this.#ahead = undefined
  }
}

/** All of a model, and far smaller than what is loaded ahead. */
function isBeside({ manifest, range: [start, end] }: ShardSpec, ahead: ShardSpec): boolean {
  const isWhole = start === 0 && end === manifest.layers.length
  return isWhole && weightBytes(manifest) <= BESIDE_SHARE * weightBytes(ahead.manifest, ahead.range)
}

function isSame(one: ShardSpec, other: ShardSpec): boolean {
  const files = ({ manifest, range: [start, end] }: ShardSpec) =>
    [start, end, ...manifest.layers.slice(start, end).map(({ sha256 }) => sha256)].join(' ')
  return one.blobsDir === other.blobsDir && files(one) === files(other)
}
