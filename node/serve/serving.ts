import { type Log, type LogFields, logger } from '../../models/log.ts'
import { hasState } from '../../models/recurrence.ts'
import { leaseBytes, weightBytes } from '../../models/runtime/memory.ts'
import {
  DEFAULT_FRAME_TOKENS,
  LOAD_PROGRESS_MS,
  MANIFEST_TIMEOUT_MS
} from '../../protocols/lease/constants.ts'
import {
  type LeaseHandlers,
  type LoadProgress,
  type LoadRequest,
  type OpenReply,
  type OpenRequest,
  RefusedError,
  type RelinkRequest,
  type RenewReply,
  type ReserveReply,
  type ReserveRequest,
  type StandReply
} from '../../protocols/lease/index.ts'
import { messageOf } from '../../protocols/text.ts'
import { LOAD_LEAVING_FLOOR_MS, LOAD_READ_BYTES_PER_MS } from '../constants.ts'
import { modelNameOf, type Peers } from '../mesh/peers.ts'
import { ManifestUnavailableError } from '../stage/errors.ts'
import type { Lease, LeaseRequest } from '../stage/lease-table.ts'
import { roomOf, roomsOf, type StageRoom } from '../stage/room.ts'
import { hiddenFrame, pooledFrame, statesFrame, tokenFrame } from '../stage/sessions.ts'
import type { ShardHandle } from '../stage/shard-pool.ts'
import { type OpenedSession, Stage, type Step, type StepResult } from '../stage/stage.ts'
import { BlobUnavailableError } from '../weights/fetch.ts'
import type { Prefetches } from '../weights/prefetches.ts'
import type { ObtainedManifest, Weights } from '../weights/weights.ts'

const log = logger('edgeshard:serve')

const BEING_DRAINED = 'the device is being drained'
const DRAINED = { type: 'refused', code: 'memory', reason: BEING_DRAINED } as const

export interface ServingComponents {
  peers: Pick<Peers, 'peerId' | 'send' | 'self' | 'known'>
  room: StageRoom
  weights: Weights
  /** What is kept on the disk for sources that may need this device one day. */
  prefetches: Pick<Prefetches, 'reserve' | 'has' | 'load' | 'release' | 'giveWay' | 'used' | 'stop'>
}

/** What hangs on one lease of a source. */
interface Tenancy {
  lease: Lease
  /** Where its memory is. */
  room: StageRoom
  obtained: ObtainedManifest
  /** The request that it was reserved for, as its source calls it. */
  requestId: string | undefined
  /** Tokens that each session has room for, and how many there are at once. */
  maxTokens: number
  slots: number
  /** Tokens of one session's frame that it is costed for. */
  frameTokens: number
  /** A lease is loaded once. */
  loading: boolean
  loaded: { shard: ShardHandle; stage: Stage; previous: string; next: string } | undefined
  /** It was reserved for an answer of which a part was out already. */
  begun: boolean
  /** Aborts when the lease is over: its memory is others' then, and nothing more is loaded for it. */
  ended: AbortController
}

/** The serving role: grants memory to sources, loads the layers they plan for this device, runs their sessions. */
export class Serving implements LeaseHandlers {
  readonly #components: ServingComponents
  readonly #tenancies = new Map<string, Tenancy>()
  /** Aborts when it is drained, for those who wait for memory; undefined meanwhile. */
  #undrained: AbortController | undefined = new AbortController()

  constructor(components: ServingComponents) {
    this.#components = components
    for (const { leases } of roomsOf(components.room)) {
      leases.events.on('evict', ({ id }) => {
        void this.evict(id).catch(
          log.passOver("letting go of a lease failed; its memory is others' already", { leaseId: id })
        )
      })
    }
  }

  /**
   * While it drains it grants nothing, also to those who wait for memory already, so that sources plan without this device; it asks for
   * the idle leases and opens nothing on them. Only answers that have begun are granted what they need to go on, as their sources
   * find no other place. No weights come any more that only a loss would need.
   */
  set draining(draining: boolean) {
    if (draining === this.draining) return
    this.#undrained?.abort(new RefusedError('memory', BEING_DRAINED))
    this.#undrained = draining ? undefined : new AbortController()
    if (draining) this.#components.prefetches.stop()
  }

  get draining(): boolean {
    return this.#undrained === undefined
  }

  /** Sessions of all sources that run here. */
  get sessions(): number {
    return [...this.#tenancies.keys()].reduce((sum, leaseId) => sum + this.sessionsOf(leaseId), 0)
  }

  /** Sources that have leases here. */
  get sources(): string[] {
    return [...new Set([...this.#tenancies.values()].map(({ lease }) => lease.source))]
  }

  /** Sessions that run under a lease. */
  sessionsOf(leaseId: string): number {
    return this.#tenancies.get(leaseId)?.loaded?.stage.sessions.length ?? 0
  }

  async reserve(
    peerId: string,
    request: ReserveRequest,
    { signal }: { signal: AbortSignal }
  ): Promise<ReserveReply> {
    const { prefetches } = this.#components
    const room = roomOf(this.#components.room, request.processor)
    const { leases } = room
    const { range, maxTokens, sessions, requestId } = request
    const { frameTokens = DEFAULT_FRAME_TOKENS, begun = false, prefetch = false } = request
    // Nothing is kept here for later.
    if (this.#refuses(request) || (prefetch && this.draining)) return DRAINED
    if (prefetch) return await prefetches.reserve(peerId, request, { signal }).catch(refuse)
    const { obtained, name, cost } = await this.#costed(peerId, request, signal)
    // The manifest may have taken its time.
    if (this.#refuses(request)) return DRAINED
    const bytes = cost.weightBytes + cost.ownBytes
    const [lease] = (await leases.acquire([cost], this.#waiting(request, signal))) ?? []
    if (lease === undefined) {
      if (this.#refuses(request)) return DRAINED
      log.of(requestId).debug('lease refused', {
        source: peerId,
        bytes,
        freeBytes: leases.freeBytes
      })
      const reason = `layers [${range[0]}, ${range[1]}) need ${bytes} bytes, ${leases.freeBytes} are free`
      return { type: 'refused', code: 'memory', reason }
    }
    log.of(requestId).debug('lease granted', () => ({
      ...aboutLease(lease),
      model: name,
      bytes,
      slots: sessions,
      maxTokens
    }))
    this.#tenancies.set(lease.id, {
      lease,
      room,
      obtained,
      requestId,
      maxTokens,
      slots: sessions,
      frameTokens,
      loading: false,
      loaded: undefined,
      begun,
      ended: new AbortController()
    })
    return { type: 'granted', leaseId: lease.id, expiresInMs: leases.termMs }
  }

  async stand(
    peerId: string,
    request: ReserveRequest,
    { signal }: { signal: AbortSignal }
  ): Promise<StandReply> {
    const { leases } = roomOf(this.#components.room, request.processor)
    if (this.#refuses(request)) return DRAINED
    const { cost } = await this.#costed(peerId, request, signal)
    if (this.#refuses(request)) return DRAINED
    if (await leases.first([cost], this.#waiting(request, signal))) return { type: 'first' }
    if (this.#refuses(request)) return DRAINED
    return { type: 'refused', code: 'memory', reason: 'others have wanted memory for longer' }
  }

  /** What has begun goes on here, while this node drains, for want of others. */
  #refuses({ begun = false }: ReserveRequest): boolean {
    return this.draining && !begun
  }

  /** How long memory is waited for: not once this node begins to be drained, unless what it is for has begun. */
  #waiting({ waitMs, begun = false }: ReserveRequest, signal: AbortSignal) {
    const undrained = begun ? undefined : this.#undrained
    return { waitMs, signal: undrained === undefined ? signal : AbortSignal.any([signal, undrained.signal]) }
  }

  /**
   * What a lease costs: by the manifest, and not by the source's word.
   *
   * @throws {RefusedError} where the model has no such layers, or nobody its manifest
   */
  async #costed(
    peerId: string,
    { modelId, range, maxTokens, sessions, frameTokens = DEFAULT_FRAME_TOKENS }: ReserveRequest,
    signal: AbortSignal
  ): Promise<{ obtained: ObtainedManifest; name: string; cost: LeaseRequest }> {
    const { peers, weights } = this.#components
    const name = modelNameOf(peers, modelId, peerId)
    const obtained = await weights
      .manifest({ id: modelId, name }, [peerId], {
        signal: AbortSignal.any([signal, AbortSignal.timeout(MANIFEST_TIMEOUT_MS)])
      })
      .catch(refuse)
    const { manifest } = obtained
    if (range[1] > manifest.layers.length)
      throw new RefusedError('bad-range', `${name} has ${manifest.layers.length} layers, not ${range[1]}`)
    const bytes = leaseBytes(manifest, range, { slots: sessions, maxTokens, frameTokens })
    return { obtained, name, cost: { source: peerId, modelId, range, ...bytes } }
  }

  async load(
    _peerId: string,
    request: LoadRequest,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: LoadProgress) => void }
  ): Promise<void> {
    if (this.#components.prefetches.has(request.leaseId))
      return await this.#prefetch(request, { signal, onProgress })
    const tenancy = this.#tenancy(request.leaseId)
    if (tenancy.loading) throw new RefusedError('loaded', `lease ${request.leaseId} is loaded already`)
    tenancy.loading = true
    let last: LoadProgress = {
      phase: 'weights',
      done: 0,
      total: weightBytes(tenancy.obtained.manifest, tenancy.lease.range)
    }
    const report = (progress: LoadProgress) => {
      last = progress
      onProgress(progress)
    }
    // Checking files, a slow link's next percent and the loading itself take longer than a source waits for a word.
    const repeating = setInterval(() => onProgress(last), LOAD_PROGRESS_MS)
    try {
      const startMs = performance.now()
      await this.#fill(tenancy, request, AbortSignal.any([signal, tenancy.ended.signal]), report)
      const ms = performance.now() - startMs
      logOf(tenancy).debug('lease loaded', () => ({ ...aboutLease(tenancy.lease), ms }))
    } catch (error) {
      // What its source has left or this node has taken back is no failure.
      const level = signal.aborted || tenancy.ended.signal.aborted ? 'debug' : 'warn'
      logOf(tenancy)[level]('lease not loaded', () => ({
        ...aboutLease(tenancy.lease),
        error: messageOf(error)
      }))
      throw error
    } finally {
      clearInterval(repeating)
    }
  }

  async #prefetch(
    request: LoadRequest,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (progress: LoadProgress) => void }
  ): Promise<void> {
    let last: LoadProgress = { phase: 'weights', done: 0, total: 1 }
    const report = (progress: LoadProgress) => {
      last = progress
      onProgress(progress)
    }
    if (this.draining) throw new RefusedError('memory', BEING_DRAINED)
    // It may stand for long: answers go first.
    const repeating = setInterval(() => onProgress(last), LOAD_PROGRESS_MS)
    await this.#components.prefetches
      .load(request, { signal, onProgress: report })
      .catch(refuse)
      .finally(() => clearInterval(repeating))
  }

  relink(_peerId: string, { leaseId, previous, next }: RelinkRequest): void {
    const tenancy = this.#tenancy(leaseId)
    if (tenancy.loaded === undefined) throw notLoaded()
    tenancy.loaded = { ...tenancy.loaded, previous, next }
    tenancy.loaded.stage.relinked()
  }

  async open(peerId: string, request: OpenRequest): Promise<OpenReply> {
    const { sessionId, leaseId, slot, requestId, ...options } = request
    const { room, loaded, slots } = this.#tenancy(leaseId)
    const { leases, sessions } = room
    if (loaded === undefined) throw notLoaded()
    const named = [slot, options.copyFrom ?? slot].find(each => each >= slots)
    if (named !== undefined)
      throw new RefusedError('slot', `the lease has ${slots} slots, none is number ${named}`)
    const { stage, previous } = loaded
    const isTaken = () => sessions.isTaken(sessionId, { previous, source: peerId })
    if (isTaken()) throw taken(sessionId)
    // As if the lease had made room: its source places the conversation elsewhere. Beside sessions that run here a refusal
    // would end the answers of all of them.
    if (this.draining && stage.idle && !isForBegun(this.#tenancy(leaseId)))
      throw new RefusedError('expired', BEING_DRAINED)
    leases.setIdle(leaseId, false)
    let opened: OpenedSession
    try {
      opened = await stage.open(sessionId, { slot, requestId, ...options })
    } catch (error) {
      idleWhenEmpty(room, leaseId, stage)
      throw error
    }
    if (this.#tenancies.get(leaseId)?.loaded?.stage !== stage) {
      await stage.closeSession(sessionId)
      throw new RefusedError('expired', 'the lease ended while a session was opened')
    }
    // On another lease it may have been opened meanwhile.
    if (isTaken()) {
      await stage.closeSession(sessionId)
      idleWhenEmpty(room, leaseId, stage)
      throw taken(sessionId)
    }
    const isFedHere = previous === this.#components.peers.peerId
    sessions.serve(sessionId, { stage, previous, isFedHere, source: peerId, requestId })
    const { keepTokens } = options
    const { exact, stored } = opened
    log.of(requestId).debug('session opened', { leaseId, sessionId, slot, keepTokens, exact })
    return { ...(options.exact && { exact }), ...(stored !== undefined && { stored }) }
  }

  async close(peerId: string, sessionId: string): Promise<void> {
    for (const { lease, room, loaded } of this.#tenancies.values()) {
      if (lease.source !== peerId || loaded === undefined) continue
      const { stage } = loaded
      // A session that is still being opened is not in the table yet; one that has failed is in none any more.
      if (stage.has(sessionId)) {
        await Promise.all([room.sessions.close(sessionId), stage.closeSession(sessionId)])
      }
      // A lease that was never used is being recruited for: it makes room for no other.
      if (lease.uses > 0) idleWhenEmpty(room, lease.id, stage)
    }
  }

  renew(_peerId: string, leaseId: string): RenewReply {
    const { room, prefetches } = this.#components
    if (prefetches.has(leaseId)) return { expiresInMs: room.leases.termMs }
    const { leases } = this.#tenancy(leaseId).room
    if (!leases.renew(leaseId)) throw new RefusedError('expired', `lease ${leaseId} has expired`)
    return { expiresInMs: leases.termMs, wanted: leases.waiting > 0 || this.draining }
  }

  async release(_peerId: string, leaseId: string): Promise<void> {
    this.#components.prefetches.release(leaseId)
    this.#tenancies.get(leaseId)?.room.leases.release(leaseId)
    await this.evict(leaseId)
  }

  /** Ends the leases whose source has stopped renewing them. */
  async expire(): Promise<void> {
    const expired = roomsOf(this.#components.room).flatMap(({ leases }) => leases.expire())
    await Promise.all(expired.map(({ id }) => this.evict(id)))
  }

  /** Lets go of all that hangs on a lease that is over; its source notices when it next uses or renews it. */
  async evict(leaseId: string): Promise<void> {
    const tenancy = this.#tenancies.get(leaseId)
    if (tenancy === undefined) return
    this.#tenancies.delete(leaseId)
    logOf(tenancy).debug('lease ended', () => aboutLease(tenancy.lease))
    tenancy.ended.abort(new RefusedError('expired', `lease ${leaseId} ended while its layers were loaded`))
    if (tenancy.loaded === undefined) return
    const freed = free(tenancy.room, tenancy.loaded)
    tenancy.room.shards.leaves(freed)
    await freed
  }

  async #fill(
    tenancy: Tenancy,
    { holders, previous, next, lanes }: LoadRequest,
    signal: AbortSignal,
    onProgress: (progress: LoadProgress) => void
  ): Promise<void> {
    const { weights, prefetches } = this.#components
    const { lease, room, obtained, slots, maxTokens, frameTokens } = tenancy
    const { manifest } = obtained
    prefetches.giveWay(lease.modelId)
    // Before its layers: what no model refers to is deleted with the next one that is removed.
    await obtained.keep(lease.source)
    const missing = await weights.missing(manifest, lease.range, { signal })
    await weights
      .obtain(missing, holders, {
        modelId: lease.modelId,
        source: lease.source,
        requestId: tenancy.requestId,
        signal,
        onProgress: (done, total) => onProgress({ phase: 'weights', done, total })
      })
      .catch(refuse)
    await prefetches.used(manifest, lease.range)
    // A load that was given up goes on to its end, and takes as long as it likes.
    const waitMs = LOAD_LEAVING_FLOOR_MS + weightBytes(manifest, lease.range) / LOAD_READ_BYTES_PER_MS
    if (!(await room.shards.allLeft({ waitMs, signal }))) {
      throw new RefusedError('memory', `what was let go of here is still in memory after ${waitMs / 1000} s`)
    }
    // The source counts no bytes from here on.
    onProgress({ phase: 'load', done: 0, total: 1 })
    const shard = await room.shards.acquire(lease.modelId, manifest, lease.range, {
      lanes,
      signal,
      onProgress: fraction => onProgress({ phase: 'load', done: fraction, total: 1 })
    })
    try {
      signal.throwIfAborted()
      const batch = await shard.shard.openBatch({ slots, maxTokens, frameTokens })
      // The lease may have ended meanwhile.
      if (signal.aborted) await batch.close()
      signal.throwIfAborted()
      const stage = new Stage({
        batch,
        turns: shard.turns,
        tenant: lease.id,
        hiddenSize: manifest.shape.hiddenSize,
        hasState: hasState(manifest.shape),
        maxTokens,
        frameTokens,
        prefixes: room.prefixes.of(lease.id, { shape: manifest.shape, range: lease.range, frameTokens }),
        deliver: (result, step) => this.#deliver(tenancy, result, step),
        onRowsFailed: (rows, error) => room.sessions.rowsFailed(rows, error)
      })
      tenancy.loaded = { shard, stage, previous, next }
      void shard.ended.then(ended => this.#lost(tenancy, ended))
    } catch (error) {
      await shard.release()
      throw error
    }
  }

  /** What computed it has ended, a GPU's driver say: the lease is over, so that the layers are loaded anew for the next one. */
  #lost({ lease: { id }, room: { leases, sessions }, loaded }: Tenancy, ended: Error): void {
    if (!this.#tenancies.has(id)) return
    // Before they are closed: of a closed session nothing is told, and its source would wait for a step or a renewal.
    for (const sessionId of loaded?.stage.sessions ?? [])
      sessions.rowsFailed([{ sessionId, position: 0 }], ended)
    leases.release(id)
    const unfreed = log.passOver('letting go of a lost stage failed; nothing of it is left', { leaseId: id })
    void this.evict(id).catch(unfreed)
  }

  async #deliver({ lease, room, loaded }: Tenancy, result: StepResult, step: Step): Promise<void> {
    const { peers } = this.#components
    // Before what is drawn: it is guessed at once what follows that.
    if ('states' in result && result.states !== undefined)
      await peers.send(lease.source, statesFrame(step, result.states))
    if (result.kind === 'hidden') {
      const { next } = loaded!
      const frame = hiddenFrame(step, result.hidden)
      return next === peers.peerId ? room.sessions.handOver(next, frame) : peers.send(next, frame)
    }
    if (result.kind === 'tokens') return peers.send(lease.source, tokenFrame(step, result.tokens))
    if (result.kind === 'pooled') return peers.send(lease.source, pooledFrame(step, result.pooled))
  }

  #tenancy(leaseId: string): Tenancy {
    const tenancy = this.#tenancies.get(leaseId)
    if (tenancy === undefined) throw new RefusedError('expired', `lease ${leaseId} has expired`)
    return tenancy
  }
}

function idleWhenEmpty({ leases }: StageRoom, leaseId: string, stage: Stage): void {
  if (stage.idle) leases.setIdle(leaseId, true)
}

async function free(
  { sessions }: StageRoom,
  { stage, shard }: NonNullable<Tenancy['loaded']>
): Promise<void> {
  await Promise.all(stage.sessions.map(id => sessions.close(id)))
  await stage.close()
  await shard.release()
}

/** True of a lease on which an answer that had begun goes on, until it has. */
function isForBegun({ begun, lease }: Tenancy): boolean {
  return begun && lease.uses === 0
}

function logOf({ requestId }: Tenancy): Log {
  return log.of(requestId)
}

function aboutLease({ id, source, range: [start, end] }: Lease): LogFields {
  return { leaseId: id, source, layers: `[${start}, ${end})` }
}

/** What no holder could send is no fault of this device. */
function refuse(error: unknown): never {
  throw error instanceof ManifestUnavailableError || error instanceof BlobUnavailableError
    ? new RefusedError('weights', error.message, { cause: error })
    : error
}

function taken(sessionId: string): RefusedError {
  return new RefusedError('session-exists', `session ${sessionId} is open already`)
}

function notLoaded(): RefusedError {
  return new RefusedError('not-loaded', 'the lease has no loaded layers yet')
}
