import type { LayerRange } from '../../models/layers.ts'
import type { Manifest } from '../../models/manifest.ts'
import type { Runtime, Shard } from '../../models/runtime.ts'
import { shardKey } from './lease-table.ts'

export interface ShardHandle {
  readonly shard: Shard
  /** Gives the shard back; the last one to do so frees its memory. */
  release(): Promise<void>
}

interface Entry {
  loading: Promise<Shard>
  users: number
}

/** Loaded shards by model and layer range: sources that want the same range share one copy of its weights. */
export class ShardPool {
  readonly #runtime: Pick<Runtime, 'load'>
  readonly #blobsDir: string
  readonly #entries = new Map<string, Entry>()

  constructor({ runtime, blobsDir }: { runtime: Pick<Runtime, 'load'>; blobsDir: string }) {
    this.#runtime = runtime
    this.#blobsDir = blobsDir
  }

  /** The shard of a range whose files are in the store, loaded when nobody else has it loaded. */
  async acquire(
    modelId: string,
    manifest: Manifest,
    range: LayerRange,
    options: { onProgress?: (fraction: number) => void } = {}
  ): Promise<ShardHandle> {
    const key = shardKey({ modelId, range })
    const entry = this.#entries.get(key) ?? {
      // Shared with whoever else asks meanwhile, so one caller's abort must not end it.
      loading: this.#runtime.load({ manifest, range, blobsDir: this.#blobsDir }, options),
      users: 0
    }
    entry.users++
    this.#entries.set(key, entry)
    try {
      const shard = await entry.loading
      let held = true
      const release = async () => {
        if (!held) return
        held = false
        await this.#leave(key, entry)
      }
      return { shard, release }
    } catch (error) {
      await this.#leave(key, entry)
      throw error
    }
  }

  async #leave(key: string, entry: Entry): Promise<void> {
    if (--entry.users > 0) return
    if (this.#entries.get(key) === entry) this.#entries.delete(key)
    const shard = await entry.loading.catch(() => undefined)
    await shard?.release()
  }
}
