import { randomUUID } from 'node:crypto'
import type { LayerRange } from '../../models/layers.ts'
import type { LeaseState } from '../types.ts'

export interface LeaseRequest {
  /** Peer id of the source that asks. */
  source: string
  modelId: string
  range: LayerRange
  /** Bytes of the range's weights; leases on the same range of a model share them. */
  weightBytes: number
  /** Bytes of the KV caches, never shared. */
  kvBytes: number
}

export interface Lease extends LeaseRequest {
  readonly id: string
  expiresAtMs: number
}

export interface LeaseTableInit {
  /** Memory for the weights and KV caches of all stages. */
  budgetBytes: number
  /** How long a lease lasts without a renewal. */
  termMs: number
  /** Milliseconds from any fixed moment; injected so that tests need not wait. */
  now: () => number
  /** Called when the bytes in use have changed. */
  onChange?: () => void
}

/**
 * What this node has promised to sources: never more than its budget. Granting is synchronous, so two sources that
 * ask at the same time cannot both get the last byte.
 */
export class LeaseTable {
  readonly #init: LeaseTableInit
  readonly #leases = new Map<string, Lease>()

  constructor(init: LeaseTableInit) {
    this.#init = init
  }

  get budgetBytes(): number {
    return this.#init.budgetBytes
  }

  /** Budget that no lease holds. */
  get freeBytes(): number {
    return this.#init.budgetBytes - this.#usedBytes()
  }

  /** A lease, or undefined where it does not fit (an exact fit is a fit). */
  reserve(request: LeaseRequest): Lease | undefined {
    if (this.costBytes(request) > this.freeBytes) return undefined
    const lease: Lease = { ...request, id: randomUUID(), expiresAtMs: this.#init.now() + this.#init.termMs }
    this.#leases.set(lease.id, lease)
    this.#init.onChange?.()
    return lease
  }

  /** What a lease would add to the bytes in use: weights that another lease already holds cost nothing. */
  costBytes(request: LeaseRequest): number {
    const shared = [...this.#leases.values()].some(lease => shardKey(lease) === shardKey(request))
    return request.kvBytes + (shared ? 0 : request.weightBytes)
  }

  get(id: string): Lease | undefined {
    return this.#leases.get(id)
  }

  /** @returns false for a lease that is unknown or has expired. */
  renew(id: string): boolean {
    const lease = this.#leases.get(id)
    if (lease === undefined) return false
    lease.expiresAtMs = this.#init.now() + this.#init.termMs
    return true
  }

  release(id: string): Lease | undefined {
    const lease = this.#leases.get(id)
    if (this.#leases.delete(id)) this.#init.onChange?.()
    return lease
  }

  /** Removes and returns the leases whose time is over. */
  expire(): Lease[] {
    const now = this.#init.now()
    const expired = [...this.#leases.values()].filter(lease => lease.expiresAtMs <= now)
    for (const lease of expired) this.#leases.delete(lease.id)
    if (expired.length > 0) this.#init.onChange?.()
    return expired
  }

  /** How many leases hold the same range of the same model. */
  holders(shard: { modelId: string; range: LayerRange }): number {
    return [...this.#leases.values()].filter(lease => shardKey(lease) === shardKey(shard)).length
  }

  /** Leases held by one source. */
  ofSource(source: string): Lease[] {
    return [...this.#leases.values()].filter(lease => lease.source === source)
  }

  state(sessions: (leaseId: string) => number): LeaseState[] {
    const now = this.#init.now()
    return [...this.#leases.values()].map(lease => ({
      id: lease.id,
      source: lease.source,
      modelId: lease.modelId,
      layers: lease.range,
      bytes: lease.weightBytes + lease.kvBytes,
      sessions: sessions(lease.id),
      expiresInMs: Math.max(0, lease.expiresAtMs - now)
    }))
  }

  #usedBytes(): number {
    const weights = new Map<string, number>()
    let kvBytes = 0
    for (const lease of this.#leases.values()) {
      weights.set(shardKey(lease), lease.weightBytes)
      kvBytes += lease.kvBytes
    }
    return kvBytes + [...weights.values()].reduce((sum, bytes) => sum + bytes, 0)
  }
}

/** Two leases with the same key share one loaded shard. */
export function shardKey({ modelId, range }: { modelId: string; range: LayerRange }): string {
  return `${modelId}:${range[0]}-${range[1]}`
}
