import type { LayerRange } from '../../models/layers.ts'
import { logger } from '../../models/log.ts'
import type { Manifest } from '../../models/manifest.ts'
import { heldBytes } from '../../models/runtime/memory.ts'
import { LEASE_RENEW_MS } from '../constants.ts'
import { delay } from '../delay.ts'
import { type Lease, shardKey } from './lease-table.ts'
import type { StageRoom } from './room.ts'
import type { ShardHandle } from './shard-pool.ts'

const log = logger('edgeshard:stage')

/** Warm weights take so much at most of the memory that nobody holds: the rest is for what this device does besides, timings say. */
const WARM_SHARE = 0.5
/** How often it is looked whether answers still pass through here. */
const LOOK_MS = 100

export interface WarmShardsComponents {
  room: Pick<StageRoom, 'leases' | 'shards' | 'beside'>
  /** Whether an answer passes through this device, or weights are loaded: nothing is loaded beside it. */
  isCarrying: () => boolean
}

/** Layers whose files are in the store, and who may want a stage of them. */
export interface WarmRange {
  /** Peer id of the source. */
  source: string
  modelId: string
  manifest: Manifest
  range: LayerRange
  /** As in `ShardSpec`. */
  lanes?: number | undefined
}

interface Warm {
  ended: AbortController
  /** What is loaded, or being loaded; absent while there is no room or no time for it. */
  held?: { lease: Lease; shard: Promise<ShardHandle> }
}

/**
 * Weights that are loaded before anybody computes with them, for the case that this device takes the place of one that dies: on a device
 * that computes for nobody, in memory that nobody holds. Each is under a lease that is idle from its first moment and was never used, so the
 * memory counts as free, and is the first that makes room. A stage of the very range finds its weights loaded (`ShardPool`).
 */
export class WarmShards {
  readonly #components: WarmShardsComponents
  readonly #warm = new Map<string, Warm>()
  #renewing: NodeJS.Timeout | undefined

  constructor(components: WarmShardsComponents) {
    this.#components = components
    components.room.leases.events.on('evict', lease => {
      for (const [id, { held }] of this.#warm) if (held?.lease.id === lease.id) this.end(id)
    })
  }

  /** The leases under which weights are loaded. */
  get leaseIds(): ReadonlySet<string> {
    return new Set([...this.#warm.values()].flatMap(({ held }) => held?.lease.id ?? []))
  }

  /** Loads the layers as soon as nothing else is done here, where there is room, and keeps them until `end` or others want the memory. */
  begin(id: string, range: WarmRange): void {
    const warm: Warm = { ended: new AbortController() }
    this.#warm.set(id, warm)
    void this.#load(warm, range).catch(error => {
      if (warm.ended.signal.aborted) return
      log.passOver('weights are not loaded ahead; a loss costs their load')(error)
      this.end(id)
    })
  }

  /** Gives the memory back. */
  end(id: string): void {
    const warm = this.#warm.get(id)
    if (warm === undefined) return
    this.#warm.delete(id)
    if (this.#warm.size === 0) {
      clearInterval(this.#renewing)
      this.#renewing = undefined
    }
    warm.ended.abort(new Error('the weights are to be ready no longer'))
    if (warm.held === undefined) return
    const { lease, shard } = warm.held
    const { leases, shards } = this.#components.room
    // Before the memory counts as free: whoever is granted it waits for this.
    shards.leaves(shard.then(({ release }) => release()))
    leases.release(lease.id)
  }

  async #load(warm: Warm, { source, modelId, manifest, range, lanes }: WarmRange): Promise<void> {
    const { isCarrying, room } = this.#components
    const { leases, shards } = room
    const { signal } = warm.ended
    while (isCarrying()) await delay(LOOK_MS, signal, { ref: false })
    signal.throwIfAborted()
    const weightBytes = heldBytes(manifest, range)
    if (!this.#hasRoom(weightBytes)) return
    const [lease] = leases.reserve([{ source, modelId, range, weightBytes, ownBytes: 0 }]) ?? []
    if (lease === undefined) return
    // Others may share the load meanwhile: it goes on to its end in any case.
    const shard = shards.acquire(modelId, manifest, range, { lanes, signal: new AbortController().signal })
    warm.held = { lease, shard }
    leases.setIdle(lease.id, true)
    this.#renewing ??= setInterval(() => this.#renew(), LEASE_RENEW_MS).unref()
    await shard
    log.debug('weights are loaded ahead', { source, modelId, layers: `[${range[0]}, ${range[1]})` })
  }

  /** Weights that are loaded, those of a range once. */
  get #bytes(): number {
    const leases = [...this.#warm.values()].flatMap(({ held }) => held?.lease ?? [])
    const ranges = new Map(leases.map(lease => [shardKey(lease), lease.weightBytes]))
    return [...ranges.values()].reduce((sum, bytes) => sum + bytes, 0)
  }

  #hasRoom(weightBytes: number): boolean {
    const { leases, beside } = this.#components.room
    // Which of two processors is to compute them is for a plan to say.
    if (beside !== undefined) return false
    const { leaseIds } = this
    const warmBytes = this.#bytes
    // Their share is of what nobody else holds: half of the rest, again and again, would leave nothing free.
    if (warmBytes + weightBytes > WARM_SHARE * (warmBytes + leases.unheldBytes)) return false
    return leases.state(() => 0).every(({ id }) => leaseIds.has(id))
  }

  #renew(): void {
    const { leases } = this.#components.room
    // Over where this process stood still for longer than its term: the memory is others' then.
    for (const [id, { held }] of this.#warm)
      if (held !== undefined && !leases.renew(held.lease.id)) this.end(id)
  }
}
