import type { LayerRange } from '../../models/layers.ts'
import { logger } from '../../models/log.ts'
import type { Manifest } from '../../models/manifest.ts'
import type { Runtime, Shard, ShardSpec } from '../../models/runtime/runtime.ts'
import { orAborted } from '../aborted.ts'
import { type LeaseTable, shardKey } from './lease-table.ts'
import { Leaving } from './leaving.ts'
import { Turns } from './turns.ts'

const log = logger('edgeshard:stage')

export interface ShardHandle {
  readonly shard: Shard
  /** Resolves with the reason when what holds the shard has ended by itself. */
  readonly ended: Promise<Error>
  /** The queue of steps of all that hold the shard. */
  readonly turns: Turns
  /** Gives the shard back; its memory is freed when no stage uses it and no source leases it. */
  release(): Promise<void>
}

interface Entry {
  loading: Promise<Shard>
  turns: Turns
  users: number
  /** Those that hold it, who are told of its end. */
  holders: Set<(ended: Error) => void>
}

export interface ShardPoolInit {
  runtime: Pick<Runtime, 'load'>
  blobsDir: string
  /** A range stays loaded while a source holds a lease on it. */
  leases: Pick<LeaseTable, 'isLeased' | 'events'>
  /** Shared with the pools of other processors that have a part of the same memory. @default of its own */
  leaving?: Leaving | undefined
}

/**
 * Loaded shards by model and layer range: sources that want the same range share one copy of its weights. A shard stays
 * loaded for as long as its range is leased, so one whose idle lease makes room for another source's lease on the same
 * range is handed over, not loaded again. Nothing is loaded or handed out before what leaves has left: budgets are of memory.
 */
export class ShardPool {
  readonly #runtime: Pick<Runtime, 'load'>
  readonly #blobsDir: string
  readonly #leases: ShardPoolInit['leases']
  readonly #entries = new Map<string, Entry>()
  #loading = 0
  readonly #leaving: Leaving

  constructor({ runtime, blobsDir, leases, leaving = new Leaving() }: ShardPoolInit) {
    this.#runtime = runtime
    this.#blobsDir = blobsDir
    this.#leases = leases
    this.#leaving = leaving
    leases.events.on('change', () => void this.sweep())
  }

  /** Shards that are being loaded now. */
  get loading(): number {
    return this.#loading
  }

  /**
   * The shard of a range whose files are in the store, loaded with so many lanes unless it is already. A caller that aborts
   * need not wait for that.
   */
  async acquire(
    modelId: string,
    manifest: Manifest,
    range: LayerRange,
    {
      lanes = 1,
      signal,
      onProgress
    }: { lanes?: number | undefined; signal: AbortSignal; onProgress?: (fraction: number) => void }
  ): Promise<ShardHandle> {
    signal.throwIfAborted()
    const key = shardKey({ modelId, range })
    const { gone } = this.#leaving
    const load = () => this.#load({ manifest, range, blobsDir: this.#blobsDir, lanes }, onProgress)
    const entry = this.#entries.get(key) ?? {
      // Shared with other callers meanwhile, so one caller's abort must not end it.
      loading: gone === undefined ? load() : gone.then(load),
      turns: new Turns(),
      users: 0,
      holders: new Set()
    }
    if (entry.users === 0 && this.#entries.get(key) !== entry) void this.#watch(key, entry)
    entry.users++
    this.#entries.set(key, entry)
    const arriving = this.#handle(key, entry, gone)
    try {
      return await orAborted(arriving, signal)
    } catch (error) {
      // It is not waited for any more.
      this.leaves(arriving.then(handle => handle.release()))
      throw error
    }
  }

  /** Waits for what is on its way out of memory now. @returns false where it was not out of it in time */
  async allLeft({ waitMs, signal }: { waitMs: number; signal: AbortSignal }): Promise<boolean> {
    return await this.#leaving.within(waitMs, signal)
  }

  /** Something that ended leases held is freed when this settles: nothing new is allocated before. */
  leaves(work: Promise<unknown>): void {
    this.#leaving.add(work)
  }

  /** Frees what no stage uses and no source holds a lease on. */
  async sweep(): Promise<void> {
    // A runtime that has stopped holds nothing any more.
    await Promise.allSettled([...this.#entries].map(([key, entry]) => this.#unloadUnused(key, entry)))
  }

  async #load(spec: ShardSpec, onProgress: ((fraction: number) => void) | undefined): Promise<Shard> {
    this.#loading++
    try {
      return await this.#runtime.load(spec, { ...(onProgress && { onProgress }) })
    } finally {
      this.#loading--
    }
  }

  async #handle(key: string, entry: Entry, gone: Promise<unknown> | undefined): Promise<ShardHandle> {
    try {
      const shard = await entry.loading
      await gone
      const ended = Promise.withResolvers<Error>()
      entry.holders.add(ended.resolve)
      const release = async () => {
        if (!entry.holders.delete(ended.resolve)) return
        await this.#leave(key, entry)
      }
      return { shard, ended: ended.promise, turns: entry.turns, release }
    } catch (error) {
      // Not for the next one to find: what failed once may work another time.
      this.#forget(key, entry)
      throw error
    }
  }

  /** Once what holds it has ended the next one that wants the range has it loaded anew. */
  async #watch(key: string, entry: Entry): Promise<void> {
    // A caller that waits for it hears why it could not be loaded.
    const ended = await entry.loading.then(
      shard => shard.ended,
      () => undefined
    )
    if (ended === undefined) return
    this.#forget(key, entry)
    for (const tell of entry.holders) tell(ended)
  }

  #forget(key: string, entry: Entry): void {
    if (this.#entries.get(key) === entry) this.#entries.delete(key)
  }

  async #leave(key: string, entry: Entry): Promise<void> {
    entry.users--
    await this.#unloadUnused(key, entry)
  }

  async #unloadUnused(key: string, entry: Entry): Promise<void> {
    if (entry.users > 0 || this.#leases.isLeased(key) || this.#entries.get(key) !== entry) return
    this.#entries.delete(key)
    const unloading = entry.loading
      .catch(
        log.passOver('a shard that nobody uses was not loaded; whoever wanted it was told', { shard: key })
      )
      .then(shard => shard?.release())
    this.leaves(unloading)
    await unloading
  }
}
