import type { Manifest } from '../../models/manifest.ts'
import { kvBytes, weightBytes } from '../../models/memory.ts'
import { DeadlineError, PeerLostError, RemoteError } from '../../protocols/errors.ts'
import type { LeaseClient } from '../../protocols/lease/index.ts'
import { StageLostError } from '../errors.ts'
import type { Lease, LeaseTable } from '../serve/lease-table.ts'
import type { ShardHandle, ShardPool } from '../serve/shard-pool.ts'
import { missingLayers, obtainBlobs, type WeightsComponents } from '../serve/weights.ts'
import type { GenerateEvent, PlannedStage } from '../types.ts'

export interface RecruitComponents extends WeightsComponents {
  /** This node's peer id: the stages that it keeps are reserved and loaded here. */
  peerId: string
  leases: LeaseTable
  shards: ShardPool
  connectLease: (peerId: string, options: { signal: AbortSignal }) => Promise<LeaseClient>
  /** Peers that hold layers of a model, nearest first. */
  holders: (modelId: string) => string[]
}

export interface Recruits {
  modelId: string
  manifest: Manifest
  stages: PlannedStage[]
  /** Tokens that each stage's KV cache is reserved for. */
  contextTokens: number
}

/** A stage that is loaded and reserved for this source: here or on a peer. */
export type RecruitedStage = { stage: PlannedStage } & (
  | { kind: 'local'; lease: Lease; shard: ShardHandle }
  | { kind: 'remote'; client: LeaseClient; leaseId: string }
)

/** A device had less memory free than its record said; planning again without that offer may work. */
export class OfferRefusedError extends Error {
  override readonly name = 'OfferRefusedError'
  readonly peerId: string

  constructor(peerId: string, message: string) {
    super(message)
    this.peerId = peerId
  }
}

type Progress = Extract<GenerateEvent, { type: 'progress' }>

/**
 * Turns a plan into stages that are ready: reserve everywhere, then fetch missing weights and load, everywhere at
 * once. All or none: whatever fails, nothing stays reserved.
 *
 * @throws {OfferRefusedError} when a device's memory is gone; {StageLostError} naming the peer that failed
 */
export async function recruit(
  components: RecruitComponents,
  recruits: Recruits,
  { signal, onProgress }: { signal: AbortSignal; onProgress: (event: Progress) => void }
): Promise<RecruitedStage[]> {
  const undo: (() => Promise<void> | void)[] = []
  const failed = new AbortController()
  const both = AbortSignal.any([signal, failed.signal])
  try {
    return await allOrFirstError(
      recruits.stages.map(async stage => {
        try {
          return stage.peerId === components.peerId
            ? await recruitHere(components, recruits, stage, { signal: both, onProgress, undo })
            : await recruitPeer(components, recruits, stage, { signal: both, onProgress, undo })
        } catch (error) {
          failed.abort(error)
          throw error
        }
      })
    )
  } catch (error) {
    await Promise.allSettled(undo.map(step => step()))
    signal.throwIfAborted()
    throw error
  }
}

interface StageOptions {
  signal: AbortSignal
  onProgress: (event: Progress) => void
  /** Collects what has to be taken back when another stage fails. */
  undo: (() => Promise<void> | void)[]
}

async function recruitHere(
  components: RecruitComponents,
  { modelId, manifest, contextTokens }: Recruits,
  stage: PlannedStage,
  { signal, onProgress, undo }: StageOptions
): Promise<RecruitedStage> {
  const { store, leases, shards, peerId } = components
  const range = stage.layers
  const lease = leases.reserve({
    source: peerId,
    modelId,
    range,
    weightBytes: weightBytes(manifest, range),
    kvBytes: kvBytes(manifest.shape, range, contextTokens)
  })
  if (lease === undefined) {
    throw new OfferRefusedError(
      peerId,
      `this node has ${leases.freeBytes} bytes left, too few for layers [${range[0]}, ${range[1]})`
    )
  }
  undo.push(() => void leases.release(lease.id))
  const progress = (phase: 'weights' | 'load') => (done: number, total: number) =>
    onProgress({ type: 'progress', phase, peer: stage.name, done, total })
  const missing = await missingLayers(store, manifest, range)
  await obtainBlobs(components, missing, components.holders(modelId), {
    signal,
    onProgress: progress('weights')
  })
  const loading = progress('load')
  const shard = await shards.acquire(modelId, manifest, range, {
    onProgress: fraction => loading(fraction, 1)
  })
  undo.push(() => shard.release())
  return { kind: 'local', stage, lease, shard }
}

async function recruitPeer(
  { connectLease, holders, peerId }: RecruitComponents,
  { modelId, contextTokens }: Recruits,
  stage: PlannedStage,
  { signal, onProgress, undo }: StageOptions
): Promise<RecruitedStage> {
  const range = stage.layers
  const whom = `${stage.name} (${stage.peerId})`
  let phase = 'could not be reached'
  try {
    const client = await connectLease(stage.peerId, { signal })
    undo.push(() => client.end())
    phase = 'did not reserve memory'
    const reply = await client.reserve(
      { modelId, range: [...range], maxTokens: contextTokens, sessions: 1 },
      { signal }
    )
    if (reply.type === 'refused')
      throw new OfferRefusedError(stage.peerId, `${whom} refused: ${reply.reason}`)
    phase = `failed while loading layers [${range[0]}, ${range[1]})`
    await client.load(
      {
        leaseId: reply.leaseId,
        holders: [peerId, ...holders(modelId)].filter(id => id !== stage.peerId)
      },
      { signal, onProgress: event => onProgress({ type: 'progress', peer: stage.name, ...event }) }
    )
    return { kind: 'remote', stage, client, leaseId: reply.leaseId }
  } catch (error) {
    if (error instanceof PeerLostError || error instanceof DeadlineError || error instanceof RemoteError) {
      throw new StageLostError(`${whom} ${phase}: ${error.message}`, stage.peerId, { cause: error })
    }
    throw error
  }
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
