import type { LayerRange } from '../../models/layers.ts'
import { besidesBytes, MAX_PARTS, mostParts, PART_BYTES } from '../../models/runtime/memory.ts'

export interface LeaseRequest {
  /** Peer id of the source that asks. */
  source: string
  modelId: string
  range: LayerRange
  /** Bytes of the range's weights as they are held; leases on the same range of a model share them. */
  weightBytes: number
  /** Bytes of KV caches and working memory, never shared. */
  ownBytes: number
  /** Used, too, it makes room where all that is idle does not do: what holds it goes on without. */
  yields?: boolean
}

export interface Lease extends LeaseRequest {
  readonly id: string
  readonly grantedAtMs: number
  expiresAtMs: number
  /** Sessions that it was used for. */
  uses: number
  /** Since when no session has used it, in the order of becoming idle; undefined while it is recruited for or used. */
  idleSince: number | undefined
}

/**
 * Leases on a node at once. Each has some working memory that it does not cost, and a manifest, so they are not without
 * number; idle ones make room for further ones.
 */
export const MAX_LEASES = 32

/**
 * Bytes of leases together: the weights of one range of a model once, KV caches and working memory of each by itself, and
 * what loaded shards and their parts take however small they are: many leases of a few bytes are many threads.
 */
export function bytesOf(leases: readonly LeaseRequest[]): number {
  const ownBytes = leases.reduce((sum, lease) => sum + lease.ownBytes, 0)
  return besidesBytes(partsOf(leases)) + ownBytes + shardsOf(leases).reduce((sum, bytes) => sum + bytes, 0)
}

/** Bytes that one more lease can have beside others, on a shard of its own, without any of them making room. */
export function bytesBeside(leases: readonly LeaseRequest[], budgetBytes: number): number {
  if (leases.length >= MAX_LEASES) return 0
  const left = budgetBytes - bytesOf(leases)
  const parts = partsOf(leases)
  const most = Array.from({ length: MAX_PARTS }, (_, i) => {
    const besides = besidesBytes(parts + i + 1) - besidesBytes(parts)
    // With more weights it would have one part more.
    return Math.min(left - besides, i + 1 < MAX_PARTS ? (i + 2) * PART_BYTES - 1 : Infinity)
  })
  return Math.max(0, ...most)
}

/** Bytes of the weights of each shard. */
function shardsOf(leases: readonly LeaseRequest[]): number[] {
  return [...new Map(leases.map(lease => [shardKey(lease), lease.weightBytes])).values()]
}

/** Parts that the shards of leases have together at most. */
function partsOf(leases: readonly LeaseRequest[]): number {
  return shardsOf(leases).reduce((sum, bytes) => sum + mostParts(bytes), 0)
}

/** Two leases with the same key share one loaded shard. */
export function shardKey({ modelId, range }: { modelId: string; range: LayerRange }): string {
  return `${modelId}:${range[0]}-${range[1]}`
}

/**
 * The idle leases that go so that `wanted` fits, least valuable first, and where all of them are too few those that yield;
 * undefined where even these are. A lease is worth the weights that would have to be loaded again, times how often it was
 * used in its life, for each byte that its end frees: an idle KV cache is worth nothing, and so are weights that another
 * lease keeps loaded anyway.
 */
export function idleToEvict(
  leases: readonly Lease[],
  wanted: readonly LeaseRequest[],
  budgetBytes: number,
  nowMs: number
): Lease[] | undefined {
  const fits = (kept: readonly LeaseRequest[]) =>
    kept.length + wanted.length <= MAX_LEASES && bytesOf([...kept, ...wanted]) <= budgetBytes
  let kept = [...leases]
  const victims: Lease[] = []
  while (!fits(kept)) {
    const idle = kept.filter(({ idleSince }) => idleSince !== undefined)
    const leaving = idle.length > 0 ? idle : kept.filter(({ yields }) => yields === true)
    if (leaving.length === 0) return undefined
    const values = new Map(leaving.map(lease => [lease, worthOf(lease, [...kept, ...wanted], nowMs)]))
    const least = leaving.reduce((a, b) => (isWorthLess(b, a, values) ? b : a))
    kept = kept.filter(lease => lease !== least)
    victims.push(least)
  }
  // A small one may have gone before a large one that would have done alone.
  return victims.filter(victim => {
    if (!fits([...kept, victim])) return true
    kept.push(victim)
    return false
  })
}

function worthOf(lease: Lease, among: readonly LeaseRequest[], nowMs: number): number {
  const freedBytes = bytesOf(among) - bytesOf(among.filter(other => other !== lease))
  if (freedBytes === 0) return 0
  const reloadBytes = freedBytes - lease.ownBytes
  const usesPerSecond = (1000 * lease.uses) / Math.max(1, nowMs - lease.grantedAtMs)
  return (usesPerSecond * reloadBytes) / freedBytes
}

function isWorthLess(a: Lease, b: Lease, values: ReadonlyMap<Lease, number>): boolean {
  const difference = values.get(a)! - values.get(b)!
  return difference < 0 || (difference === 0 && (a.idleSince ?? 0) < (b.idleSince ?? 0))
}
