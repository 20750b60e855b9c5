import { randomUUID } from 'node:crypto'
import { StoreError } from '../../models/errors.ts'
import type { LayerRange } from '../../models/layers.ts'
import { logger } from '../../models/log.ts'
import type { BlobRef, Manifest } from '../../models/manifest.ts'
import type { ModelStore } from '../../models/store/store.ts'
import { MANIFEST_TIMEOUT_MS } from '../../protocols/lease/constants.ts'
import {
  type LoadProgress,
  type LoadRequest,
  RefusedError,
  type ReserveReply,
  type ReserveRequest
} from '../../protocols/lease/index.ts'
import type { NodeRecord } from '../api.ts'
import {
  LOAD_ASSUMED_MBPS,
  MAX_PREFETCHED_FILES,
  PREFETCH_LINK_SHARE,
  PREFETCH_SOURCE_SHARE,
  PREFETCH_TERM_MS
} from '../constants.ts'
import { delay } from '../delay.ts'
import { holdersOf, isCalled, modelNameOf, type Peers } from '../mesh/peers.ts'
import type { LeaseTable } from '../stage/lease-table.ts'
import type { WarmShards } from '../stage/warm-shards.ts'
import { AskBudget } from './ask-budget.ts'
import { BackgroundPace } from './background-pace.ts'
import type { ModelCache } from './model-cache.ts'
import { notedAt } from './noted-at.ts'
import type { PrefetchedFile, PrefetchedFiles } from './prefetched-files.ts'
import type { ObtainedManifest, Weights } from './weights.ts'

const log = logger('edgeshard:weights')

/** Sources whose weights come at the same time; others are told to ask again. */
const MAX_AT_ONCE = 2
/** A lease of this kind lasts as long as its stream: it holds no memory that others could wait for. */
const TERM_MS = 24 * 3_600_000
/** What a source may have ready here at once: each is a lease to keep, and may wait to be loaded. */
const MAX_READY_PER_SOURCE = 32
/** Whoever has been granted one and loads nothing for so long is in the way of others. */
const UNLOADED_MS = 30_000

export interface PrefetchesComponents {
  peers: Pick<Peers, 'peerId' | 'self' | 'known' | 'links'>
  store: Pick<ModelStore, 'has' | 'list' | 'cached'>
  weights: Pick<Weights, 'manifest' | 'missing' | 'obtain'>
  cache: Pick<ModelCache, 'giveUp' | 'makeRoom'>
  leases: Pick<LeaseTable, 'useOf'>
  files: PrefetchedFiles
  /** Loads what is here in memory that nobody holds. */
  warm: Pick<WarmShards, 'begin' | 'end'>
  /** Whether an answer passes through this device. */
  isCarrying: () => boolean
  /** Called when there is more or less of them than before. */
  onChange?: () => void
}

export interface PrefetchesInit {
  /** What they may take of the disk, in bytes; 0: nothing is prefetched here. */
  quotaBytes: number
  /** Milliseconds since 1970. */
  now: () => number
}

/** What a source has been granted. */
interface Asked {
  source: string
  modelId: string
  range: LayerRange
  obtained: ObtainedManifest
  grantedAtMs: number
  loading: boolean
  /** Bytes that are coming. */
  comingBytes: number
  ended: AbortController
}

/**
 * The weights that sources have this device keep for the case that it takes the place of another one: who asked for which
 * file, and what they may take. Whoever asks is a member, and nothing more is believed of it: a source has a share of the
 * quota, asks only so often, names only models that somebody in the mesh has imported, and gives up its own before
 * anybody else's. A file that a stage here was loaded with counts as one of the cache, and no more as one of these.
 */
export class Prefetches {
  readonly #components: PrefetchesComponents
  readonly #init: PrefetchesInit
  readonly #asked = new Map<string, Asked>()
  /** What is here that was asked for, by the leases of sources that want it to be ready still. */
  readonly #ready = new Map<string, Pick<Asked, 'source' | 'modelId'>>()
  readonly #budget = new AskBudget(() => performance.now())
  /** Sources whose manifest is read. */
  readonly #reserving = new Set<string>()
  /** One decision on room after the other: each counts on what the one before has taken. */
  #deciding: Promise<unknown> = Promise.resolve()

  constructor(components: PrefetchesComponents, init: PrefetchesInit) {
    this.#components = components
    this.#init = init
  }

  /** What this device says of it. */
  get state(): NonNullable<NodeRecord['prefetch']> {
    return { quotaBytes: this.#init.quotaBytes, bytes: bytesOf(this.#components.files.all) }
  }

  has(leaseId: string): boolean {
    return this.#asked.has(leaseId) || this.#ready.has(leaseId)
  }

  /** Looks which files of before are still there. */
  async start(): Promise<void> {
    await this.#components.files.read()
    await this.forgetGone()
  }

  async reserve(
    source: string,
    { modelId, range, requestId }: Pick<ReserveRequest, 'modelId' | 'range' | 'requestId'>,
    { signal }: { signal: AbortSignal }
  ): Promise<ReserveReply> {
    const { peers } = this.#components
    if (this.#init.quotaBytes === 0) return refused('this device keeps no weights for others to be ready')
    const waitS = this.#budget.take(source)
    if (waitS > 0) return refused(`it has asked too often; it may again in ${waitS} s`)
    if (!isCalled(peers, modelId)) return refused('nobody in the mesh has imported that model')
    if ([...this.#ready.values()].filter(ready => ready.source === source).length >= MAX_READY_PER_SOURCE)
      return refused(`it has ${MAX_READY_PER_SOURCE} ranges ready here, and is to end the lease of one first`)
    this.#forgetUnloaded()
    const running = [...[...this.#asked.values()].map(asked => asked.source), ...this.#reserving]
    if (running.includes(source) || running.length >= MAX_AT_ONCE)
      return refused('other weights are on their way; it may ask again')
    this.#reserving.add(source)
    try {
      return await this.#grant(source, { modelId, range, requestId }, { signal })
    } finally {
      this.#reserving.delete(source)
    }
  }

  async #grant(
    source: string,
    { modelId, range, requestId }: Pick<ReserveRequest, 'modelId' | 'range' | 'requestId'>,
    { signal }: { signal: AbortSignal }
  ): Promise<ReserveReply> {
    const { peers, weights } = this.#components
    const obtained = await weights.manifest(
      { id: modelId, name: modelNameOf(peers, modelId, source) },
      [source],
      {
        signal: AbortSignal.any([signal, AbortSignal.timeout(MANIFEST_TIMEOUT_MS)])
      }
    )
    const { layers } = obtained.manifest
    if (range[1] > layers.length)
      throw new RefusedError('bad-range', `the model has ${layers.length} layers, not ${range[1]}`)
    const leaseId = randomUUID()
    const ended = new AbortController()
    const of = { source, modelId, range, obtained, grantedAtMs: performance.now() }
    this.#asked.set(leaseId, { ...of, loading: false, comingBytes: 0, ended })
    log.of(requestId).debug('weights are to be prefetched', { leaseId, source, modelId })
    return { type: 'granted', leaseId, expiresInMs: TERM_MS }
  }

  /**
   * Brings the weights to the disk, slowly, and not while answers pass through here. What has come when it is given up stays. Behind
   * that they are loaded, where there is memory for it, and kept so until the source ends the lease.
   *
   * @throws {RefusedError} where the quota has no room for them
   */
  async load(
    { leaseId, holders, lanes }: Pick<LoadRequest, 'leaseId' | 'holders' | 'lanes'>,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: LoadProgress) => void }
  ): Promise<void> {
    const asked = this.#asked.get(leaseId)
    if (asked === undefined || asked.loading)
      throw new RefusedError('loaded', `lease ${leaseId} is over, or loaded already`)
    asked.loading = true
    try {
      const until = AbortSignal.any([signal, asked.ended.signal])
      await this.#bring(asked, holders, until, onProgress)
      until.throwIfAborted()
    } finally {
      this.#asked.delete(leaseId)
    }
    const { source, modelId, range, obtained } = asked
    this.#ready.set(leaseId, { source, modelId })
    this.#components.warm.begin(leaseId, { source, modelId, manifest: obtained.manifest, range, lanes })
  }

  async #bring(
    asked: Asked,
    holders: readonly string[],
    until: AbortSignal,
    onProgress: (progress: LoadProgress) => void
  ): Promise<void> {
    const { weights, files, onChange } = this.#components
    const { modelId, source, range, obtained } = asked
    const missing = await weights.missing(obtained.manifest, range, { signal: until })
    await this.#inTurn(() => this.#makeRoom(asked, missing))
    await obtained.keep(source, true)
    const known = holdersOf(this.#components.peers, modelId)
    const nearest = holders.filter(peerId => known.includes(peerId))
    const pace = this.#paceFrom(nearest[0], until)
    try {
      await weights.obtain(missing, nearest, {
        modelId,
        source,
        signal: until,
        onProgress: (done, total) => onProgress({ phase: 'weights', done, total }),
        pace: bytes => pace.take(bytes)
      })
    } finally {
      asked.comingBytes = 0
      await files.add(
        await this.#there(missing.map(file => ({ ...file, modelId, source, atMs: this.#init.now() })))
      )
      onChange?.()
    }
  }

  /** The source wants no more of it. What has come stays until its place is needed. */
  release(leaseId: string): void {
    const asked = this.#asked.get(leaseId)
    this.#asked.delete(leaseId)
    this.#ready.delete(leaseId)
    this.#components.warm.end(leaseId)
    asked?.ended.abort(new RefusedError('expired', `lease ${leaseId} ended while its weights were fetched`))
  }

  #forgetUnloaded(): void {
    const beforeMs = performance.now() - UNLOADED_MS
    for (const [leaseId, { loading, grantedAtMs }] of this.#asked)
      if (!loading && grantedAtMs < beforeMs) this.release(leaseId)
  }

  /** Ends what is under way, what has been granted, and what is ready. */
  stop(): void {
    for (const leaseId of [...this.#asked.keys(), ...this.#ready.keys()]) this.release(leaseId)
  }

  /**
   * A stage is loaded here with layers of the model, which somebody waits for: what is still coming comes for that, and what is loaded
   * of the very range is that stage's.
   */
  giveWay(modelId: string): void {
    for (const [leaseId, asked] of this.#asked) if (asked.modelId === modelId) this.release(leaseId)
    for (const [leaseId, ready] of this.#ready) if (ready.modelId === modelId) this.release(leaseId)
  }

  /** A stage was loaded here with layers of the manifest: their files have found their use. */
  async used({ layers }: Manifest, [start, end]: LayerRange): Promise<void> {
    const { files, onChange } = this.#components
    const before = files.all.length
    await files.remove(layers.slice(start, end).map(({ sha256 }) => sha256))
    if (files.all.length < before) onChange?.()
  }

  /** Forgets files that are not there any more, as the cache has made room, or a person has; and those of models that a person has imported. */
  async forgetGone(): Promise<void> {
    const { store, files, onChange } = this.#components
    const there = new Set((await this.#there(files.all)).map(({ sha256 }) => sha256))
    const own = new Set((await store.list()).map(({ id }) => id))
    const gone = files.all.filter(({ sha256, modelId }) => !there.has(sha256) || own.has(modelId))
    if (gone.length === 0) return
    await files.remove(gone.map(({ sha256 }) => sha256))
    onChange?.()
  }

  async #there(files: readonly PrefetchedFile[]): Promise<PrefetchedFile[]> {
    const has = await Promise.all(files.map(file => this.#components.store.has(file)))
    return files.filter((_, i) => has[i])
  }

  /** @throws {RefusedError} */
  async #makeRoom(asked: Asked, missing: readonly BlobRef[]): Promise<void> {
    const { files } = this.#components
    const { source, modelId } = asked
    const bytes = bytesOf(missing)
    const { quotaBytes } = this.#init
    await this.forgetGone()
    const of = (sourceOrAll: string | undefined) => {
      const mine = (each: { source: string }) => sourceOrAll === undefined || each.source === sourceOrAll
      const coming = [...this.#asked.values()]
        .filter(mine)
        .reduce((sum, { comingBytes }) => sum + comingBytes, 0)
      return bytesOf(files.all.filter(mine)) + coming + bytes
    }
    const fits = async () =>
      of(undefined) <= quotaBytes &&
      of(source) <= PREFETCH_SOURCE_SHARE * quotaBytes &&
      files.all.length + missing.length <= MAX_PREFETCHED_FILES &&
      (await this.#isRoomFor(asked, bytes))
    for (const victim of await this.#victims(source, modelId)) {
      if (await fits()) break
      await this.#components.cache.giveUp([victim])
      await this.forgetGone()
    }
    if (!(await fits())) {
      throw new RefusedError(
        'memory',
        `${bytes} bytes are too many: of ${quotaBytes} a source has ${PREFETCH_SOURCE_SHARE * quotaBytes}, where the disk has that; what could go is in use`
      )
    }
    asked.comingBytes = bytes
  }

  /** Whether the cache has room for more of a model while nothing else of it goes. */
  async #isRoomFor({ source, modelId }: Asked, bytes: number): Promise<boolean> {
    try {
      await this.#components.cache.makeRoom({ id: modelId, source, bytes, isSpare: true })
      return true
    } catch (error) {
      if (error instanceof StoreError) return false
      throw error
    }
  }

  /**
   * Models that may go for a source, in that order: its own ones, of which nobody else has asked for or used anything
   * here, and then those that nobody has asked for or used lately. With a model goes all of it that is here.
   */
  async #victims(source: string, wanted: string): Promise<string[]> {
    const { files, leases, store } = this.#components
    const own = new Set((await store.list()).map(({ id }) => id))
    const nowMs = this.#init.now()
    const coming = new Set([...this.#asked.values()].map(({ modelId }) => modelId))
    const byModel = Map.groupBy(files.all, ({ modelId }) => modelId)
    const claimed = new Map((await store.cached()).map(({ id, claims }) => [id, Object.entries(claims)]))
    return [...byModel]
      .filter(([id]) => id !== wanted && !own.has(id) && !coming.has(id) && leases.useOf(id) === 'no')
      .map(([id, all]) => {
        const uses = [...all.map(({ source, atMs }) => [source, atMs] as const), ...(claimed.get(id) ?? [])]
        const isMine = uses.every(([user]) => user === source)
        return { id, isMine, atMs: Math.max(...uses.map(([, atMs]) => notedAt(atMs, nowMs))) }
      })
      .filter(({ isMine, atMs }) => isMine || nowMs - atMs > PREFETCH_TERM_MS)
      .sort((a, b) => Number(b.isMine) - Number(a.isMine) || a.atMs - b.atMs)
      .map(({ id }) => id)
  }

  #paceFrom(holder: string | undefined, signal: AbortSignal): BackgroundPace {
    const { peers, isCarrying } = this.#components
    // Measured while they come, perhaps.
    const mbps = () => {
      const link = peers.links.find(({ from, to }) => from === holder && to === peers.peerId)
      return PREFETCH_LINK_SHARE * (link?.mbps ?? LOAD_ASSUMED_MBPS)
    }
    const now = () => performance.now()
    return new BackgroundPace({ mbps, isCarrying, now, wait: ms => delay(ms, signal) })
  }

  async #inTurn(work: () => Promise<void>): Promise<void> {
    const done = this.#deciding.then(work)
    // Whoever wanted the room hears of it; the next decision is made all the same.
    this.#deciding = done.catch(() => {})
    await done
  }
}

function refused(reason: string): ReserveReply {
  return { type: 'refused', code: 'memory', reason }
}

function bytesOf(files: readonly { bytes: number }[]): number {
  return files.reduce((sum, { bytes }) => sum + bytes, 0)
}
