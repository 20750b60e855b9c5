import type { LayerRange } from '../../models/layers.ts'
import type { Manifest } from '../../models/manifest.ts'
import type {
  BatchOptions,
  OpenSessionOptions,
  Shard,
  ShardBatch,
  ShardSession
} from '../../models/runtime/runtime.ts'

/** A shard on a GPU, whose KV caches may find less memory there than it was thought to have. */
export class GpuShard implements Shard {
  readonly manifest: Manifest
  readonly range: LayerRange
  readonly #shard: Shard
  readonly #onError: (error: unknown) => void

  /** @param onError hears of everything that could not be opened; who asked for it does as well */
  constructor(shard: Shard, onError: (error: unknown) => void) {
    this.manifest = shard.manifest
    this.range = shard.range
    this.#shard = shard
    this.#onError = onError
  }

  get ended(): Promise<Error> {
    return this.#shard.ended
  }

  open(options: OpenSessionOptions): Promise<ShardSession> {
    return this.#watched(this.#shard.open(options))
  }

  openBatch(options: BatchOptions): Promise<ShardBatch> {
    return this.#watched(this.#shard.openBatch(options))
  }

  release(): Promise<void> {
    return this.#shard.release()
  }

  async #watched<T>(opening: Promise<T>): Promise<T> {
    try {
      return await opening
    } catch (error) {
      this.#onError(error)
      throw error
    }
  }
}
