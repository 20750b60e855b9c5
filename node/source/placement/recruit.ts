import { logger } from '../../../models/log.ts'
import type { Manifest } from '../../../models/manifest.ts'
import { PREFILL_CHUNK_TOKENS } from '../../../models/runtime/hidden.ts'
import { kvBytes, leaseBytes } from '../../../models/runtime/memory.ts'
import { DeadlineError, RemoteError } from '../../../protocols/errors.ts'
import { MAX_HOLDERS } from '../../../protocols/lease/constants.ts'
import { leaseBlame } from '../../../protocols/lease/index.ts'
import { messageOf } from '../../../protocols/text.ts'
import type { GenerateEvent, PlannedStage } from '../../api.ts'
import { LEASE_RENEW_MS } from '../../constants.ts'
import { type ErrorCode, errorCodeOf } from '../../error-codes.ts'
import { BusyError, OwnStageNotLoadedError, StageLostError } from '../../errors.ts'
import { holdersOf, type LeaseStream, type Peers } from '../../mesh/peers.ts'
import { placeName } from '../../place-name.ts'
import { shortNames } from '../../short-names.ts'
import type { Lease, LeaseRequest } from '../../stage/lease-table.ts'
import { roomOf, type StageRoom } from '../../stage/room.ts'
import type { Weights } from '../../weights/weights.ts'
import { neighboursOf } from './chain.ts'
import type { Distrust } from './distrust.ts'
import { type HeldStage, OwnStage, type OwnStageInit, PeerStage } from './held-stage.ts'
import { loadDeadlineMs, slowestMbps } from './load-deadline.ts'
import { LoadPace } from './load-pace.ts'
import { nearestFirst } from './nearest.ts'
import { placeKey } from './places.ts'
import { reserveAll, type Standing } from './reserve.ts'
import { orStageLost } from './stage-lost.ts'

const log = logger('edgeshard:source')

export interface RecruiterComponents {
  peers: Pick<Peers, 'peerId' | 'self' | 'known' | 'links' | 'events' | 'lease' | 'send'>
  /** The room in which the stages are reserved and loaded that this node keeps. */
  room: StageRoom
  weights: Pick<Weights, 'missing' | 'obtain'>
  /** Takes note of peers that do not in time what they have agreed to. */
  distrust: Pick<Distrust, 'late' | 'unable'>
  /** Milliseconds from any fixed moment. */
  now: () => number
}

export interface Recruits {
  modelId: string
  manifest: Manifest
  stages: PlannedStage[]
  /** The stage of these to recruit, where the others are there already. */
  only?: PlannedStage
  /** Sessions at once that KV caches are reserved for, and tokens of each. */
  slots: number
  contextTokens: number
  /** Sequences with any number of tokens each that one run is to compute. @default 1 */
  lanes?: number
  /** How long to stand in line for memory that is in use. */
  waitMs: number
  /** Part of the answer is out already: what is being drained may be asked, too. */
  begun?: boolean | undefined
  /** The request that this is for. */
  requestId?: string | undefined
}

/** A device had less memory free than its record said; planning again without that offer may work. */
export class OfferRefusedError extends Error {
  override readonly name = 'OfferRefusedError'
  readonly code = 'offer_refused'
  readonly peerId: string

  constructor(peerId: string, message: string) {
    super(message)
    this.peerId = peerId
  }
}

type ProgressEvent = Extract<GenerateEvent, { type: 'progress' }>

/** What one place has promised for the stages that it gets. */
type Reserved =
  | { kind: 'local'; room: StageRoom; leases: Lease[] }
  | { kind: 'remote'; lease: LeaseStream; leaseId: string }

interface StageOptions {
  signal: AbortSignal
  onProgress: (event: ProgressEvent) => void
  /** Collects what has to be taken back when another stage fails. */
  undo: (() => Promise<void> | void)[]
}

/** Turns plans into stages that are leased and loaded. */
export class Recruiter {
  readonly #components: RecruiterComponents

  constructor(components: RecruiterComponents) {
    this.#components = components
  }

  /**
   * Recruits in two phases: reserve on every device, then fetch missing weights and load, everywhere at once. All or
   * none: whatever fails, nothing stays reserved.
   *
   * @returns the stages in the order of the plan
   * @throws {OfferRefusedError} when a device's memory is gone, {BusyError} when it stayed in use for `waitMs`;
   * {StageLostError} naming the peer that failed
   */
  async recruit(
    recruits: Recruits,
    { signal, onProgress }: { signal: AbortSignal; onProgress: (event: ProgressEvent) => void }
  ): Promise<HeldStage[]> {
    const { peers, now } = this.#components
    const requestLog = log.of(recruits.requestId)
    const undo: (() => Promise<void> | void)[] = []
    const held: Reserved[] = []
    const failed = new AbortController()
    const wanted = recruits.only === undefined ? recruits.stages : [recruits.only]
    const both = AbortSignal.any([signal, failed.signal])
    const options = { signal: both, onProgress, undo }
    // Standing in line and loading may take longer than a lease lasts.
    const renewal = setInterval(() => void this.#renew(held), LEASE_RENEW_MS)
    // Sooner than a connection ends or a deadline passes.
    const onSilent = (peerId: string) => {
      const stage = wanted.find(stage => stage.peerId === peerId)
      if (stage === undefined) return
      failed.abort(
        new StageLostError(`${stage.name} (${peerId}) has fallen silent while it was recruited`, peerId)
      )
    }
    peers.events.on('silent', onSilent)
    try {
      const stagesAt = (place: string) => wanted.filter(stage => placeKey(stage) === place)
      const reserved = await reserveAll(
        wanted.map(placeKey),
        async (place, waitMs, until) => {
          const stages = stagesAt(place)
          const { peerId } = stages[0]!
          const reserving = { ...options, signal: AbortSignal.any([both, until]) }
          const granted =
            peerId === peers.peerId
              ? await this.#reserveHere(recruits, stages, waitMs, reserving)
              : await this.#reservePeer(recruits, stages[0]!, waitMs, reserving)
          held.push(granted)
          requestLog.debug('reserved', { peerId, name: stages[0]?.name })
          return granted
        },
        {
          waitMs: recruits.waitMs,
          now,
          stand: (place, waitMs) => this.#stand(recruits, stagesAt(place), waitMs, both)
        }
      )
      return await allOrFirstError(
        wanted.map(async stage => {
          try {
            const startMs = now()
            const loaded = await this.#load(recruits, stage, reserved.get(placeKey(stage))!, options)
            const { peerId, name, layers } = stage
            const ms = now() - startMs
            requestLog.debug('loaded', () => ({ peerId, name, layers: `[${layers[0]}, ${layers[1]})`, ms }))
            return loaded
          } catch (error) {
            failed.abort(error)
            throw error
          }
        })
      )
    } catch (error) {
      requestLog.debug('not recruited', () => ({ error: messageOf(failed.signal.reason ?? error) }))
      await Promise.allSettled(undo.map(step => step()))
      signal.throwIfAborted()
      // What fails after that is a consequence.
      const first = failed.signal.aborted ? failed.signal.reason : error
      if (first instanceof StageLostError && first.cause instanceof DeadlineError) {
        this.#components.distrust.late(first.peerId, first.message)
      }
      // The next request would ask it first again.
      if (first instanceof StageLostError && first.cause instanceof RemoteError)
        this.#components.distrust.unable(first.peerId)
      if (failed.signal.aborted) throw first
      // Of a device that has begun to be drained nothing more is to be had by waiting.
      if (error instanceof OfferRefusedError && recruits.waitMs > 0 && !this.#isDraining(error.peerId)) {
        throw new BusyError(`${error.message} after ${recruits.waitMs / 1000} s; try again later`)
      }
      throw error
    } finally {
      clearInterval(renewal)
      peers.events.off('silent', onSilent)
    }
  }

  #isDraining(peerId: string): boolean {
    return this.#components.peers.known.some(
      ({ record }) => record.peerId === peerId && record.draining === true
    )
  }

  /** Stands beside the line of a device, this one or a peer. */
  #stand(recruits: Recruits, stages: readonly PlannedStage[], waitMs: number, signal: AbortSignal): Standing {
    const { peers } = this.#components
    const [stage] = stages as [PlannedStage]
    const room = roomOf(this.#components.room, stage.processor)
    const left = new AbortController()
    const until = AbortSignal.any([signal, left.signal])
    const first =
      stage.peerId === peers.peerId
        ? room.leases.first(this.#ownRequests(recruits, stages), { waitMs, signal: until })
        : this.#standAt(recruits, stage, waitMs, until).catch(error => {
            log.of(recruits.requestId).passOver('a device does not say when a source is the first', {
              peerId: stage.peerId
            })(error)
            return false
          })
    return { first, leave: () => left.abort(new Error('it is reserved, or will not be')) }
  }

  async #standAt(
    recruits: Recruits,
    stage: PlannedStage,
    waitMs: number,
    until: AbortSignal
  ): Promise<boolean> {
    const lease = await this.#components.peers.lease(stage.peerId, { signal: until })
    if (until.aborted) lease.end()
    else until.addEventListener('abort', () => lease.end(), { once: true })
    const request = { ...asked(recruits, stage), waitMs: Math.floor(waitMs) }
    return await lease.stand(request, { signal: until })
  }

  #ownRequests(
    { modelId, manifest, slots, contextTokens }: Recruits,
    stages: readonly PlannedStage[]
  ): LeaseRequest[] {
    return stages.map(({ layers }) => ({
      source: this.#components.peers.peerId,
      modelId,
      range: layers,
      ...leaseBytes(manifest, layers, { slots, maxTokens: contextTokens })
    }))
  }

  async #reserveHere(
    recruits: Recruits,
    stages: readonly PlannedStage[],
    waitMs: number,
    { signal, undo }: StageOptions
  ): Promise<Reserved> {
    const { peers } = this.#components
    const room = roomOf(this.#components.room, stages[0]!.processor)
    const { leases } = room
    const granted = await leases.acquire(this.#ownRequests(recruits, stages), { waitMs, signal })
    for (const { id } of granted ?? []) undo.push(() => void leases.release(id))
    signal.throwIfAborted()
    if (granted === undefined) {
      const ranges = stages.map(({ layers: [start, end] }) => `[${start}, ${end})`).join(' and ')
      throw new OfferRefusedError(
        peers.peerId,
        `this node has ${leases.freeBytes} bytes left, too few for layers ${ranges}`
      )
    }
    return { kind: 'local', room, leases: granted }
  }

  async #reservePeer(
    recruits: Recruits,
    stage: PlannedStage,
    waitMs: number,
    { signal, undo }: StageOptions
  ): Promise<Reserved> {
    const { peerId } = stage
    return await orRefused(stage, 'did not reserve memory', async () => {
      const lease = await this.#components.peers.lease(peerId, { signal })
      undo.push(() => lease.end())
      const request = { ...asked(recruits, stage), waitMs: Math.floor(waitMs) }
      const reply = await lease.reserve(request, { signal })
      if (reply.type === 'refused') throw new RemoteError(peerId, reply.code, reply.reason)
      return { kind: 'remote', lease, leaseId: reply.leaseId }
    })
  }

  async #load(
    recruits: Recruits,
    stage: PlannedStage,
    reserved: Reserved,
    options: StageOptions
  ): Promise<HeldStage> {
    const { peers } = this.#components
    const { modelId, manifest, stages, contextTokens } = recruits
    const { links } = peers
    const holders = nearestFirst([peers.peerId, ...holdersOf(peers, modelId)], stage.peerId, links)
    const allBytes = stages.reduce((sum, { weightBytes }) => sum + weightBytes, 0)
    const load = { peerId: stage.peerId, bytes: stage.weightBytes, allBytes, holders }
    const timeoutMs = loadDeadlineMs(load, links)
    const neighbours = neighboursOf(stages, stages.indexOf(stage))
    if (reserved.kind === 'local') {
      const lease = reserved.leases.find(({ range }) => range === stage.layers)!
      return await this.#loadHere(
        recruits,
        { planned: stage, lease, room: reserved.room, ...neighbours },
        holders,
        timeoutMs,
        options
      )
    }
    const { lease, leaseId } = reserved
    const { signal, onProgress } = options
    const [start, end] = stage.layers
    const pace = new LoadPace({ bytes: stage.weightBytes, mbps: slowestMbps(load, links) })
    await orRefused(stage, `failed while loading layers [${start}, ${end})`, () =>
      lease.load(
        { leaseId, ...neighbours, holders: holders.slice(0, MAX_HOLDERS), lanes: recruits.lanes },
        {
          signal: AbortSignal.any([signal, pace.signal]),
          timeoutMs,
          onProgress: event => {
            if (pace.reported(event))
              onProgress({ type: 'progress', peer: calledIn(stages, stage), ...event })
          }
        }
      )
    ).finally(() => pace.end())
    return new PeerStage(stage, lease, leaseId, kvBytes(manifest.shape, stage.layers, contextTokens))
  }

  async #loadHere(
    { modelId, manifest, stages, slots, contextTokens, lanes, requestId }: Recruits,
    held: Pick<OwnStageInit, 'planned' | 'lease' | 'room' | 'previous' | 'next'>,
    holders: readonly string[],
    timeoutMs: number,
    { signal, onProgress, undo }: StageOptions
  ): Promise<OwnStage> {
    const { weights } = this.#components
    const { room } = held
    const { layers } = held.planned
    const name = calledIn(stages, held.planned)
    const progress = (phase: 'weights' | 'load') => (done: number, total: number) =>
      onProgress({ type: 'progress', phase, peer: name, done, total })
    const loading = progress('load')
    const late = AbortSignal.timeout(timeoutMs)
    const until = AbortSignal.any([signal, late])
    try {
      const missing = await weights.missing(manifest, layers, { signal: until })
      await weights.obtain(missing, holders, {
        modelId,
        requestId,
        signal: until,
        onProgress: progress('weights')
      })
      const shard = await room.shards.acquire(modelId, manifest, layers, {
        lanes,
        signal: until,
        onProgress: fraction => loading(fraction, 1)
      })
      const init = { ...held, manifest, shard, slots, contextTokens }
      const stage = await OwnStage.create(this.#components, init).catch(async error => {
        await shard.release()
        throw error
      })
      undo.push(() => stage.release())
      return stage
    } catch (error) {
      if (signal.aborted) throw error
      const range = `[${layers[0]}, ${layers[1]})`
      if (late.aborted)
        throw new DeadlineError(`layers ${range} were not fetched and loaded here within ${timeoutMs} ms`)
      if (!NAMELESS.has(errorCodeOf(error))) throw error
      const message = `this device, ${name}, failed while loading layers ${range}: ${messageOf(error)}`
      throw new OwnStageNotLoadedError(message, { cause: error })
    }
  }

  async #renew(held: readonly Reserved[]): Promise<void> {
    await Promise.allSettled(
      held.map(async reserved => {
        if (reserved.kind === 'local') for (const { id } of reserved.leases) reserved.room.leases.renew(id)
        else await reserved.lease.renew(reserved.leaseId)
      })
    )
  }
}

/** What a load may fail with that says nothing of the layers, nor of a file. */
const NAMELESS: ReadonlySet<ErrorCode> = new Set(['internal_error', 'inference_failed'])

/** What a device is asked for. */
function asked(
  { modelId, slots, contextTokens, begun, requestId }: Recruits,
  { layers, processor }: PlannedStage
) {
  return {
    modelId,
    range: [...layers] as [number, number],
    maxTokens: contextTokens,
    sessions: slots,
    frameTokens: PREFILL_CHUNK_TOKENS,
    ...(processor !== undefined && { processor }),
    ...(begun === true && { begun: true }),
    requestId
  }
}

/** What people are told of a stage's place: no two devices of a plan are called the same, nor two processors of one. */
function calledIn(stages: readonly PlannedStage[], { peerId, processor }: PlannedStage): string {
  return placeName({ id: shortNames(stages).get(peerId)!, processor })
}

/** Does as `orStageLost`, but where a refusal's code says so an offer is gone, and the device is well. */
function orRefused<T>(stage: PlannedStage, what: string, work: () => Promise<T>): Promise<T> {
  const { name, peerId } = stage
  return orStageLost(stage, what, () =>
    work().catch(error => {
      if (!(error instanceof RemoteError)) throw error
      if (leaseBlame(error.code) !== 'source') throw error
      throw new OfferRefusedError(peerId, `${name} (${peerId}) refused: ${error.message}`)
    })
  )
}

/** Waits for all, so that nothing is still being built when what failed is undone; throws what failed first. */
async function allOrFirstError<T>(work: Promise<T>[]): Promise<T[]> {
  let first: { error: unknown } | undefined
  const results = await Promise.allSettled(
    work.map(one =>
      one.catch(error => {
        first ??= { error }
        throw error
      })
    )
  )
  if (first !== undefined) throw first.error
  return results.map(result => (result as PromiseFulfilledResult<T>).value)
}
