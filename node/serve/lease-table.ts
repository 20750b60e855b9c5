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
  /** Since when no session has used it, in the order of becoming idle; undefined while it is recruited for or used. */
  idleSince: number | undefined
}

export interface LeaseTableInit {
  /** Memory for the weights and KV caches of all stages. */
  budgetBytes: number
  /** How long a lease lasts without a renewal. */
  termMs: number
  /** Milliseconds from any fixed moment; injected so that tests need not wait. */
  now: () => number
  /** Called when the bytes that can be had have changed. */
  onChange?: () => void
  /** Called with an idle lease that had to make room. */
  onEvict?: (lease: Lease) => void
}

/**
 * What this node has promised to sources: never more than its budget. Granting is synchronous, so two sources that
 * ask at the same time cannot both get the last byte. A lease that no session uses keeps its weights warm, but makes
 * room when another one needs it; one that is being recruited for or used never does, so nobody loses what he builds on.
 */
export class LeaseTable {
  readonly #init: LeaseTableInit
  readonly #leases = new Map<string, Lease>()
  #idleCount = 0

  constructor(init: LeaseTableInit) {
    this.#init = init
  }

  get budgetBytes(): number {
    return this.#init.budgetBytes
  }

  /** What a new lease can have: budget that no lease holds, or only idle ones. */
  get freeBytes(): number {
    return (
      this.#init.budgetBytes -
      bytesOf([...this.#leases.values()].filter(lease => lease.idleSince === undefined))
    )
  }

  /** A lease, or undefined where it does not fit (an exact fit is a fit). */
  reserve(request: LeaseRequest): Lease | undefined {
    const evicted = this.#victims(request)
    if (evicted === undefined) return undefined
    for (const { id } of evicted) this.#leases.delete(id)
    const expiresAtMs = this.#init.now() + this.#init.termMs
    const lease: Lease = { ...request, id: randomUUID(), expiresAtMs, idleSince: undefined }
    this.#leases.set(lease.id, lease)
    for (const victim of evicted) this.#init.onEvict?.(victim)
    this.#init.onChange?.()
    return lease
  }

  /** Marks a lease as used by a session, or as waiting for the next one. */
  setIdle(id: string, idle: boolean): void {
    const lease = this.#leases.get(id)
    if (lease === undefined) return
    lease.idleSince = idle ? this.#idleCount++ : undefined
    this.#init.onChange?.()
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

  /** The idle leases, longest idle first, that must go so that a request fits; undefined where even all are too few. */
  #victims(request: LeaseRequest): Lease[] | undefined {
    const kept = [...this.#leases.values()]
    const idle = kept
      .filter(lease => lease.idleSince !== undefined)
      .sort((a, b) => a.idleSince! - b.idleSince!)
    const victims: Lease[] = []
    while (bytesOf([...kept, request]) > this.#init.budgetBytes) {
      const victim = idle.shift()
      if (victim === undefined) return undefined
      kept.splice(kept.indexOf(victim), 1)
      victims.push(victim)
    }
    return victims
  }
}

/** Bytes of leases together: the weights of one range of a model once, each KV cache by itself. */
function bytesOf(leases: readonly LeaseRequest[]): number {
  const weights = new Map(leases.map(lease => [shardKey(lease), lease.weightBytes]))
  const kvBytes = leases.reduce((sum, lease) => sum + lease.kvBytes, 0)
  return kvBytes + [...weights.values()].reduce((sum, bytes) => sum + bytes, 0)
}

/** Two leases with the same key share one loaded shard. */
export function shardKey({ modelId, range }: { modelId: string; range: LayerRange }): string {
  return `${modelId}:${range[0]}-${range[1]}`
}
