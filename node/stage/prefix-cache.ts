import type { LayerRange } from '../../models/layers.ts'
import type { ModelShape } from '../../models/manifest.ts'
import { hasState } from '../../models/recurrence.ts'
import { kvBytes } from '../../models/runtime/memory.ts'
import type { SavedTokens } from '../../models/runtime/saved-tokens.ts'
import { RefusedError } from '../../protocols/lease/index.ts'
import type { PrefixFiles } from './prefix-files.ts'

/** A conversation that makes room in its slot, and the number under which its source finds it again. */
export interface StoredPrefix {
  key: number
  /** Its first tokens, which are kept. */
  tokens: number
}

/** How full the cache is, and how often it was of use since the start. */
export interface PrefixCacheState {
  /** Bytes that it holds in memory at most. */
  budgetBytes: number
  heldBytes: number
  /** Bytes in files, which memory had no room for. */
  fileBytes: number
  /** Conversations that were stored. */
  stored: number
  /** Conversations that were asked for, by where they were found; `gone`: they had made room. */
  asked: { memory: number; file: number; gone: number }
}

interface Kept {
  tenant: string
  bytes: number
  /** Undefined while it is taken out of its slot. */
  saved: SavedTokens | undefined
}

/**
 * What conversations had in KV caches when others took their slots: the memory for it, of all leases of a device
 * together. Bytes are counted before anything is allocated, and what was used last stays. Each lease finds its own alone. Where there
 * are files they have what memory has no room for.
 */
export class PrefixCache {
  /** Most that it holds. */
  readonly bytes: number
  /** By lease and key, the first one to be given up first. */
  readonly #kept = new Map<string, Kept>()

  readonly #files: PrefixFiles | undefined
  #stored = 0
  readonly #asked = { memory: 0, file: 0, gone: 0 }

  constructor({ bytes, files }: { bytes: number; files?: PrefixFiles | undefined }) {
    this.bytes = bytes
    this.#files = files
  }

  /** Bytes of memory that it holds; what is in files is not among them. */
  get heldBytes(): number {
    return [...this.#kept.values()].reduce((sum, { bytes }) => sum + bytes, 0)
  }

  get state(): PrefixCacheState {
    return {
      budgetBytes: this.bytes,
      heldBytes: this.heldBytes,
      fileBytes: this.#files?.heldBytes ?? 0,
      stored: this.#stored,
      asked: { ...this.#asked }
    }
  }

  /** The part of a lease; undefined where nothing of such a model is kept here: layers with states cannot be cut. */
  of(tenant: string, cached: CachedRange): LeasePrefixes | undefined {
    return this.bytes === 0 || hasState(cached.shape) ? undefined : new LeasePrefixes(this, tenant, cached)
  }

  /** Makes room for what is put there next. @returns false where it is more than all that there is */
  makeRoom(tenant: string, key: number, bytes: number): boolean {
    this.#kept.delete(nameOf(tenant, key))
    this.#files?.forget(nameOf(tenant, key))
    if (bytes > this.bytes) return false
    for (let free = this.bytes - this.heldBytes; free < bytes; ) {
      const [name, oldest] = this.#kept.entries().next().value!
      this.#kept.delete(name)
      if (oldest.saved !== undefined) this.#files?.put(name, oldest.saved)
      free += oldest.bytes
    }
    this.#kept.set(nameOf(tenant, key), { tenant, bytes, saved: undefined })
    return true
  }

  /** @param saved undefined: it could not be taken out. @returns whether it is kept */
  put(tenant: string, key: number, saved: SavedTokens | undefined): boolean {
    const isKept = this.#put(tenant, key, saved)
    if (isKept) this.#stored++
    return isKept
  }

  #put(tenant: string, key: number, saved: SavedTokens | undefined): boolean {
    const kept = this.#kept.get(nameOf(tenant, key))
    if (kept === undefined || kept.saved !== undefined) return false
    if (saved === undefined) this.#kept.delete(nameOf(tenant, key))
    else kept.saved = saved
    return saved !== undefined
  }

  async get(tenant: string, key: number): Promise<SavedTokens | undefined> {
    const name = nameOf(tenant, key)
    const kept = this.#kept.get(name)
    if (kept?.saved === undefined) {
      const saved = await this.#fromFile(tenant, key)
      this.#asked[saved === undefined ? 'gone' : 'file']++
      return saved
    }
    this.#asked.memory++
    this.#kept.delete(name)
    this.#kept.set(name, kept)
    return kept.saved
  }

  /** The lease is over. */
  forget(tenant: string): void {
    for (const [name, kept] of this.#kept) if (kept.tenant === tenant) this.#kept.delete(name)
    this.#files?.forgetAll(nameOf(tenant, ''))
  }

  /** In memory from then on, where it was before: counted while it is read, and let go where the lease ends meanwhile. */
  async #fromFile(tenant: string, key: number): Promise<SavedTokens | undefined> {
    const name = nameOf(tenant, key)
    const bytes = this.#files?.bytesOf(name)
    if (this.#files === undefined || bytes === undefined) return undefined
    const reading = this.#files.take(name)
    this.makeRoom(tenant, key, bytes)
    const saved = await reading
    this.#put(tenant, key, saved)
    return saved
  }
}

/** What a lease's KV caches are of. */
export interface CachedRange {
  shape: ModelShape
  range: LayerRange
  /** Tokens that a step has at most. */
  frameTokens: number
}

/** A lease's part of the cache. */
export class LeasePrefixes {
  readonly #cache: PrefixCache
  readonly #tenant: string
  readonly #cached: CachedRange

  constructor(cache: PrefixCache, tenant: string, cached: CachedRange) {
    this.#cache = cache
    this.#tenant = tenant
    this.#cached = cached
  }

  /** Makes room for a conversation that is about to be saved. @returns false where it is too large */
  makeRoom({ key, tokens }: StoredPrefix): boolean {
    const { shape, range, frameTokens } = this.#cached
    return this.#cache.makeRoom(this.#tenant, key, kvBytes(shape, range, tokens, frameTokens))
  }

  /** @returns whether it is kept */
  put(key: number, saved: SavedTokens | undefined): boolean {
    return this.#cache.put(this.#tenant, key, saved)
  }

  /** @throws {RefusedError} where it is not kept any more */
  async get(key: number): Promise<SavedTokens> {
    const saved = await this.#cache.get(this.#tenant, key)
    if (saved === undefined) throw notKept(key)
    return saved
  }

  close(): void {
    this.#cache.forget(this.#tenant)
  }
}

/** What a source hears that asks for what made room here: it computes the prompt anew. */
export function notKept(key: number): RefusedError {
  return new RefusedError('not-kept', `what was kept as number ${key} has made room`)
}

function nameOf(tenant: string, key: number | ''): string {
  return `${tenant} ${key}`
}
