import { StoreError } from '../../models/errors.ts'
import { logger } from '../../models/log.ts'
import type { CachedModel, ModelStore } from '../../models/store/store.ts'
import { CACHE_DISK_SHARE, CACHE_SOURCE_SHARE, KEPT_FREE_BYTES, MAX_CACHED_MODELS } from '../constants.ts'
import type { LeaseTable } from '../stage/lease-table.ts'
import { type CacheEntry, type CacheLimits, type CacheNeed, roomFor } from './cache-room.ts'
import { notedAt } from './noted-at.ts'

const log = logger('edgeshard:weights')

/** What was used last is told apart no more closely than that. */
const CLAIM_AGAIN_MS = 10 * 60_000
const MAX_NOTED = 4096

export interface ModelCacheComponents {
  store: Pick<ModelStore, 'list' | 'cached' | 'cache' | 'claim' | 'uncache' | 'heldLayers' | 'freeBytes'>
  /** Models on which leases are used stay. */
  leases: Pick<LeaseTable, 'useOf' | 'evictIdle'>
  /** Called when the cache holds less than before. */
  onEvicted?: () => void
}

/**
 * The models that are here for those who compute with them: this node, where it prompts a model of others, and the sources
 * of its leases. They are kept by id, apart from the user's own, and make room for each other.
 */
export class ModelCache {
  readonly #components: ModelCacheComponents
  /** When a source's use of a model was last noted, by both ids. */
  readonly #noted = new Map<string, number>()
  /** One change after the other: each counts on what the one before has left. */
  #changing: Promise<unknown> = Promise.resolve()

  constructor(components: ModelCacheComponents) {
    this.#components = components
  }

  /**
   * Puts a model into the cache in the name of a source, or notes that the source uses it again. One of the user's own
   * needs no place there.
   *
   * @param isSpare no other model goes for it
   * @throws {StoreError} when all that could make room for it is in use
   */
  async keep(
    model: { id: string; called: string; bytes: Uint8Array },
    source: string,
    isSpare = false
  ): Promise<void> {
    await this.#change(async () => {
      const { store } = this.#components
      if (await this.#isOwn(model.id)) return
      await this.#makeRoom({ id: model.id, source, bytes: 0, isSpare })
      const before = (await store.cached()).find(({ id }) => id === model.id)
      const claims = { ...before?.claims, [source]: Date.now() }
      await store.cache(model.bytes, { called: model.called, claims })
      this.#note(model.id, source)
    })
  }

  /**
   * Notes that a source uses a model again, but not at every prompt.
   *
   * @param isSpare no other model goes for it
   */
  async claim(id: string, source: string, isSpare = false): Promise<void> {
    const notedAtMs = this.#noted.get(`${source} ${id}`)
    if (notedAtMs !== undefined && performance.now() - notedAtMs < CLAIM_AGAIN_MS) return
    await this.#change(async () => {
      const { store } = this.#components
      const cached = (await store.cached()).find(model => model.id === id)
      if (cached !== undefined) {
        await this.#makeRoom({ id, source, bytes: 0, isSpare })
        await store.claim(id, { ...cached.claims, [source]: Date.now() })
      }
      this.#note(id, source)
    })
  }

  /**
   * Makes room for more of a model's files, unless it is the user's own.
   *
   * @throws {StoreError} when all that could make room is in use
   */
  async makeRoom(need: CacheNeed): Promise<void> {
    await this.#change(async () => {
      if (!(await this.#isOwn(need.id))) await this.#makeRoom(need)
    })
  }

  /** Gives models up for which no lease is used here. @returns those that are gone */
  async giveUp(ids: readonly string[]): Promise<string[]> {
    let gone: string[] = []
    await this.#change(async () => {
      gone = await this.#drop(ids)
    })
    return gone
  }

  async #makeRoom(need: CacheNeed): Promise<void> {
    const { store } = this.#components
    // What the user has imported meanwhile takes no place of the others.
    const own = new Set((await store.list()).map(({ id }) => id))
    const cached = (await store.cached()).filter(({ id }) => !own.has(id))
    const entries = await Promise.all(cached.map(model => this.#entryOf(model)))
    const limits = await this.#limits(entries)
    const room = roomFor(entries, need, limits)
    if (room === undefined) {
      throw new StoreError(
        `no room for ${need.bytes} more bytes of model ${need.id.slice(0, 12)}: what one source brings here may be ` +
          `${limits.sourceModels} models and ${Math.floor(limits.sourceBytes)} bytes, of all sources ${limits.models} and ` +
          `${Math.floor(limits.bytes)}, and what could go is in use`
      )
    }
    for (const id of room.unclaim) {
      const { [need.source]: _, ...claims } = cached.find(model => model.id === id)!.claims
      await store.claim(id, claims)
    }
    if (room.drop.length + room.unclaim.length > 0) this.#noted.clear()
    if (room.drop.length > 0) await this.#drop(room.drop)
  }

  async #drop(ids: readonly string[]): Promise<string[]> {
    const { store, leases, onEvicted } = this.#components
    // A lease that waits for its next session goes with its model; one that is used again since then keeps it.
    const gone = ids.filter(id => leases.evictIdle(id))
    const freedBytes = await store.uncache(gone)
    log.debug('cached models have made room', () => ({ models: gone.length, freedBytes }))
    this.#noted.clear()
    onEvicted?.()
    return gone
  }

  async #entryOf({ id, claims, manifest }: CachedModel): Promise<CacheEntry> {
    const { store, leases } = this.#components
    const held = await store.heldLayers(manifest)
    const bytes = held
      .flatMap(([start, end]) => manifest.layers.slice(start, end))
      .reduce((sum, layer) => sum + layer.bytes, 0)
    const nowMs = Date.now()
    const noted = Object.entries(claims).map(([source, atMs]) => [source, notedAt(atMs, nowMs)] as const)
    return { id, bytes, claims: Object.fromEntries(noted), leased: leases.useOf(id) }
  }

  async #limits(entries: readonly CacheEntry[]): Promise<CacheLimits> {
    const cachedBytes = entries.reduce((sum, { bytes }) => sum + bytes, 0)
    const free = (await this.#components.store.freeBytes()) - KEPT_FREE_BYTES
    const bytes = CACHE_DISK_SHARE * Math.max(0, free + cachedBytes)
    return {
      models: MAX_CACHED_MODELS,
      sourceModels: MAX_CACHED_MODELS / 4,
      bytes,
      sourceBytes: CACHE_SOURCE_SHARE * bytes
    }
  }

  #note(id: string, source: string): void {
    if (this.#noted.size >= MAX_NOTED) this.#noted.clear()
    this.#noted.set(`${source} ${id}`, performance.now())
  }

  async #isOwn(id: string): Promise<boolean> {
    return (await this.#components.store.list()).some(model => model.id === id)
  }

  async #change(work: () => Promise<void>): Promise<void> {
    const done = this.#changing.then(work)
    // Whoever wanted the change hears of it; the next one is made all the same.
    this.#changing = done.catch(() => {})
    await done
  }
}
