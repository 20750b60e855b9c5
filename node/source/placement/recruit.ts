import type { Manifest } from '../../../models/manifest.ts'
import { kvCacheBytes, weightBytes } from '../../../models/runtime/memory.ts'
import { DeadlineError, RemoteError } from '../../../protocols/errors.ts'
import { MAX_HOLDERS } from '../../../protocols/lease/constants.ts'
import { type LeaseClient, type LeaseCode, leaseBlame, leaseCode } from '../../../protocols/lease/index.ts'
import type { GenerateEvent, LinkState, PlannedStage } from '../../api.ts'
import { LEASE_RENEW_MS } from '../../constants.ts'
import { BusyError, StageLostError } from '../../errors.ts'
import type { Lease, LeaseTable } from '../../stage/lease-table.ts'
import type { ShardHandle, ShardPool } from '../../stage/shard-pool.ts'
import { missingLayers, obtainBlobs, type WeightsComponents } from '../../weights/weights.ts'
import { loadDeadlineMs } from './load-deadline.ts'
import { nearestFirst } from './nearest.ts'
import { reserveInOrder } from './reserve.ts'
import { orStageLost } from './stage-lost.ts'

export interface RecruitComponents extends WeightsComponents {
  /** This node's peer id: the stages that it keeps are reserved and loaded here. */
  peerId: string
  leases: LeaseTable
  shards: ShardPool
  connectLease: (peerId: string, options: { signal: AbortSignal }) => Promise<LeaseClient>
  /** Calls back with every peer that falls silent, until the returned function is called. */
  onSilent: (listener: (peerId: string) => void) => () => void
  /** Peers that hold layers of a model. */
  holders: (modelId: string) => string[]
  linkStates: () => LinkState[]
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
  /** How long to stand in line for memory that is in use. */
  waitMs: number
  /** The request that this is for. */
  requestId?: string | undefined
}

/** A stage that is loaded and reserved for this source: here or on a peer. */
export type RecruitedStage = { stage: PlannedStage } & (
  | { kind: 'local'; lease: Lease; shard: ShardHandle }
  | { kind: 'remote'; client: LeaseClient; leaseId: string }
)

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

/** The request is wrong in itself: no other device could do it either. */
export class LeaseRefusedError extends Error {
  override readonly name = 'LeaseRefusedError'
  readonly code = 'lease_refused'
  readonly reason: LeaseCode

  constructor(reason: LeaseCode, message: string) {
    super(message)
    this.reason = reason
  }
}

type Progress = Extract<GenerateEvent, { type: 'progress' }>

/** What one device has promised for the stages that it gets. */
type Reserved = { kind: 'local'; leases: Lease[] } | { kind: 'remote'; client: LeaseClient; leaseId: string }

/**
 * Turns a plan into stages that are ready, in two phases: reserve on every device, then fetch missing weights and load,
 * everywhere at once. All or none: whatever fails, nothing stays reserved.
 *
 * @throws {OfferRefusedError} when a device's memory is gone, {BusyError} when it stayed in use for `waitMs`;
 * {StageLostError} naming the peer that failed, {LeaseRefusedError} when the request is wrong in itself
 */
export async function recruit(
  components: RecruitComponents,
  recruits: Recruits,
  { signal, onProgress }: { signal: AbortSignal; onProgress: (event: Progress) => void }
): Promise<RecruitedStage[]> {
  const undo: (() => Promise<void> | void)[] = []
  const held: Reserved[] = []
  const failed = new AbortController()
  const wanted = recruits.only === undefined ? recruits.stages : [recruits.only]
  const both = AbortSignal.any([signal, failed.signal])
  const options = { signal: both, onProgress, undo }
  // Standing in line and loading may take longer than a lease lasts.
  const renewal = setInterval(() => void renew(components, held), LEASE_RENEW_MS)
  // Sooner than a connection ends or a deadline passes.
  const unwatch = components.onSilent(peerId => {
    const stage = wanted.find(stage => stage.peerId === peerId)
    if (stage === undefined) return
    failed.abort(
      new StageLostError(`${stage.name} (${peerId}) has fallen silent while it was recruited`, peerId)
    )
  })
  try {
    const reserved = await reserveInOrder(
      wanted.map(({ peerId }) => peerId),
      async (peerId, waitMs) => {
        const stages = wanted.filter(stage => stage.peerId === peerId)
        const reserve = peerId === components.peerId ? reserveHere : reservePeer
        held.push(await reserve(components, recruits, stages, waitMs, options))
        return held.at(-1)!
      },
      { waitMs: recruits.waitMs, now: () => performance.now() }
    )
    return await allOrFirstError(
      wanted.map(async stage => {
        try {
          return await load(components, recruits, stage, reserved.get(stage.peerId)!, options)
        } catch (error) {
          failed.abort(error)
          throw error
        }
      })
    )
  } catch (error) {
    await Promise.allSettled(undo.map(step => step()))
    signal.throwIfAborted()
    // What fails after that is a consequence.
    if (failed.signal.aborted) throw failed.signal.reason
    if (error instanceof OfferRefusedError && recruits.waitMs > 0) {
      throw new BusyError(`${error.message} after ${recruits.waitMs / 1000} s; try again later`)
    }
    throw error
  } finally {
    clearInterval(renewal)
    unwatch()
  }
}

interface StageOptions {
  signal: AbortSignal
  onProgress: (event: Progress) => void
  /** Collects what has to be taken back when another stage fails. */
  undo: (() => Promise<void> | void)[]
}

async function reserveHere(
  { leases, peerId }: RecruitComponents,
  { modelId, manifest, slots, contextTokens }: Recruits,
  stages: readonly PlannedStage[],
  waitMs: number,
  { signal, undo }: StageOptions
): Promise<Reserved> {
  const requests = stages.map(({ layers }) => ({
    source: peerId,
    modelId,
    range: layers,
    weightBytes: weightBytes(manifest, layers),
    kvBytes: kvCacheBytes(manifest.shape, layers, { slots, maxTokens: contextTokens })
  }))
  const granted = await leases.acquire(requests, { waitMs, signal })
  for (const { id } of granted ?? []) undo.push(() => void leases.release(id))
  signal.throwIfAborted()
  if (granted === undefined) {
    const ranges = stages.map(({ layers: [start, end] }) => `[${start}, ${end})`).join(' and ')
    throw new OfferRefusedError(
      peerId,
      `this node has ${leases.freeBytes} bytes left, too few for layers ${ranges}`
    )
  }
  return { kind: 'local', leases: granted }
}

async function reservePeer(
  { connectLease }: RecruitComponents,
  { modelId, slots, contextTokens, requestId }: Recruits,
  [stage]: readonly PlannedStage[],
  waitMs: number,
  { signal, undo }: StageOptions
): Promise<Reserved> {
  const { peerId, layers } = stage!
  return await orRefused(stage!, 'did not reserve memory', async () => {
    const client = await connectLease(peerId, { signal })
    undo.push(() => client.end())
    const reply = await client.reserve(
      {
        modelId,
        range: [...layers],
        maxTokens: contextTokens,
        sessions: slots,
        waitMs: Math.floor(waitMs),
        requestId
      },
      { signal }
    )
    if (reply.type === 'refused') throw new RemoteError(peerId, reply.code, reply.reason)
    return { kind: 'remote', client, leaseId: reply.leaseId }
  })
}

/** As `orStageLost`, but a refusal is what its code says: an offer that is gone, a failed device, or the end of it. */
function orRefused<T>(stage: PlannedStage, what: string, work: () => Promise<T>): Promise<T> {
  const { name, peerId } = stage
  return orStageLost(stage, what, () =>
    work().catch(error => {
      if (!(error instanceof RemoteError)) throw error
      const blame = leaseBlame(error.code)
      const message = `${name} (${peerId}) refused: ${error.message}`
      if (blame === 'source') throw new OfferRefusedError(peerId, message)
      if (blame === 'nobody') throw new LeaseRefusedError(leaseCode(error.code), message)
      throw error
    })
  )
}

async function load(
  components: RecruitComponents,
  { modelId, manifest, stages }: Recruits,
  stage: PlannedStage,
  reserved: Reserved,
  { signal, onProgress, undo }: StageOptions
): Promise<RecruitedStage> {
  const { store, shards, peerId } = components
  const range = stage.layers
  const links = components.linkStates()
  const holders = nearestFirst([peerId, ...components.holders(modelId)], stage.peerId, links)
  const allBytes = stages.reduce((sum, { weightBytes }) => sum + weightBytes, 0)
  const timeoutMs = loadDeadlineMs(
    { peerId: stage.peerId, bytes: stage.weightBytes, allBytes, holders },
    links
  )
  if (reserved.kind === 'remote') {
    const { client, leaseId } = reserved
    const at = stages.indexOf(stage)
    const previous = stages[at - 1]!.peerId
    const next = (stages[at + 1] ?? stages[0]!).peerId
    await orRefused(stage, `failed while loading layers [${range[0]}, ${range[1]})`, () =>
      client.load(
        { leaseId, previous, next, holders: holders.slice(0, MAX_HOLDERS) },
        {
          signal,
          timeoutMs,
          onProgress: event => onProgress({ type: 'progress', peer: stage.name, ...event })
        }
      )
    )
    return { kind: 'remote', stage, client, leaseId }
  }
  const progress = (phase: 'weights' | 'load') => (done: number, total: number) =>
    onProgress({ type: 'progress', phase, peer: stage.name, done, total })
  const loading = progress('load')
  const late = AbortSignal.timeout(timeoutMs)
  const until = AbortSignal.any([signal, late])
  try {
    const missing = await missingLayers(store, manifest, range, { signal: until })
    await obtainBlobs(components, missing, holders, {
      modelId,
      signal: until,
      onProgress: progress('weights')
    })
    const shard = await shards.acquire(modelId, manifest, range, {
      signal: until,
      onProgress: fraction => loading(fraction, 1)
    })
    undo.push(() => shard.release())
    return { kind: 'local', stage, lease: reserved.leases.find(lease => lease.range === range)!, shard }
  } catch (error) {
    if (!late.aborted || signal.aborted) throw error
    throw new DeadlineError(
      `layers [${range[0]}, ${range[1]}) were not fetched and loaded here within ${timeoutMs} ms`
    )
  }
}

async function renew({ leases }: RecruitComponents, held: readonly Reserved[]): Promise<void> {
  await Promise.allSettled(
    held.map(async reserved => {
      if (reserved.kind === 'local') for (const { id } of reserved.leases) leases.renew(id)
      else await reserved.client.renew(reserved.leaseId)
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
