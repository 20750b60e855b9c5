import { EventEmitter } from 'node:events'
import { expect, test, vi } from 'vitest'
import type { Manifest } from '../../../models/manifest.ts'
import type { Shard } from '../../../models/runtime/runtime.ts'
import type { PeersEvents } from '../../../node/mesh/peers.ts'
import { LeaseTable } from '../../../node/stage/lease-table.ts'
import { createStageRoom } from '../../../node/stage/room.ts'
import { ShardPool } from '../../../node/stage/shard-pool.ts'

const manifest = {} as Manifest
const range = [1, 4] as const
const { signal } = new AbortController()

/** A pool over a runtime that only counts, and a table with room for one KV cache beside the weights. */
function setUp() {
  const counts = { loads: 0, releases: 0, failing: false, arrives: Promise.resolve() }
  const runtime = {
    async load(): Promise<Shard> {
      counts.loads++
      await counts.arrives
      if (counts.failing) throw new Error('disk gone')
      return { release: async () => void counts.releases++ } as unknown as Shard
    }
  }
  const leases = new LeaseTable({ budgetBytes: 100, termMs: 1000, now: () => 0 })
  const pool = new ShardPool({ runtime, blobsDir: '', leases })
  const reserve = (source: string) =>
    leases.reserve([{ source, modelId: 'm', range, weightBytes: 60, ownBytes: 40 }])![0]!
  return { counts, leases, pool, reserve }
}

test('a shard whose idle lease makes room for another source is handed over, not loaded again', async () => {
  const { counts, leases, pool, reserve } = setUp()
  const first = reserve('A')
  const handle = await pool.acquire('m', manifest, range, { signal })
  leases.setIdle(first.id, true)
  const second = reserve('B')
  await handle.release()
  const again = await pool.acquire('m', manifest, range, { signal })
  expect(counts).toMatchObject({ loads: 1, releases: 0 })
  await again.release()
  leases.release(second.id)
  await pool.sweep()
  expect(counts).toMatchObject({ loads: 1, releases: 1 })
})

test('a lease that ends before its range is loaded again leaves nothing loaded', async () => {
  const { counts, leases, pool, reserve } = setUp()
  leases.setIdle(reserve('A').id, true)
  const handle = await pool.acquire('m', manifest, range, { signal })
  const second = reserve('B')
  await handle.release()
  expect(counts.releases).toBe(0)
  leases.release(second.id)
  await pool.sweep()
  expect(counts.releases).toBe(1)
})

test('a load that failed is tried again for the next one', async () => {
  const { counts, pool, reserve } = setUp()
  reserve('A')
  counts.failing = true
  await expect(pool.acquire('m', manifest, range, { signal })).rejects.toThrow('disk gone')
  counts.failing = false
  await pool.acquire('m', manifest, range, { signal })
  expect(counts.loads).toBe(2)
})

test('who aborts need not wait for a load; it is let go of when it arrives, and others may take it', async () => {
  const { counts, leases, pool, reserve } = setUp()
  const { promise, resolve } = Promise.withResolvers<void>()
  counts.arrives = promise
  const lease = reserve('A')
  const cancel = new AbortController()
  const cancelled = pool.acquire('m', manifest, range, { signal: cancel.signal })
  const other = pool.acquire('m', manifest, range, { signal })
  cancel.abort(new Error('cancelled'))
  await expect(cancelled).rejects.toThrow('cancelled')
  resolve()
  await (await other).release()
  expect(counts).toMatchObject({ loads: 1, releases: 0 })
  leases.release(lease.id)
  await pool.sweep()
  expect(counts.releases).toBe(1)
})

test('nothing is loaded before what leaves has left: a budget is of memory, not of promises', async () => {
  const { counts, leases, pool, reserve } = setUp()
  const { promise, resolve } = Promise.withResolvers<void>()
  counts.arrives = promise
  const lease = reserve('A')
  const cancel = new AbortController()
  const abandoned = pool.acquire('m', manifest, range, { signal: cancel.signal })
  cancel.abort(new Error('the lease ended'))
  await expect(abandoned).rejects.toThrow('ended')
  leases.release(lease.id)
  // Its layers are still being loaded: those of the next lease would come on top.
  const next = pool.acquire('m', manifest, [4, 8], { signal })
  await new Promise(setImmediate)
  expect(counts).toMatchObject({ loads: 1, releases: 0 })
  resolve()
  await next
  expect(counts).toMatchObject({ loads: 2, releases: 1 })
})

test('what leaves is waited for, but not for ever', async () => {
  vi.useFakeTimers()
  try {
    const { pool } = setUp()
    expect(await pool.allLeft({ waitMs: 1000, signal })).toBe(true)
    const { promise, resolve } = Promise.withResolvers<void>()
    pool.leaves(promise)
    const short = pool.allLeft({ waitMs: 1000, signal })
    const long = pool.allLeft({ waitMs: 5000, signal })
    const cancel = new AbortController()
    const cancelled = pool.allLeft({ waitMs: 5000, signal: cancel.signal })
    cancel.abort(new Error('cancelled'))
    await expect(cancelled).rejects.toThrow('cancelled')
    await vi.advanceTimersByTimeAsync(1000)
    expect(await short).toBe(false)
    resolve()
    expect(await long).toBe(true)
    expect(vi.getTimerCount()).toBe(0)
  } finally {
    vi.useRealTimers()
  }
})

test('nor on the processor beside it: what leaves the one may be promised on the other already', async () => {
  const loads: string[] = []
  const runtime = (name: string) => ({
    async load(): Promise<Shard> {
      loads.push(name)
      return { release: async () => {} } as unknown as Shard
    }
  })
  const peers = { send: async () => {}, events: new EventEmitter<PeersEvents>() }
  const init = { blobsDir: '', budgetBytes: 100, termMs: 1000, now: () => 0 }
  const beside = { processor: 'cpu', runtime: runtime('cpu'), budgetBytes: 100 }
  const room = createStageRoom({ runtime: runtime('gpu'), peers }, { ...init, beside })
  const freeing = Promise.withResolvers<void>()
  room.shards.leaves(freeing.promise)
  const { shards } = room.beside!
  expect(await shards.allLeft({ waitMs: 1, signal })).toBe(false)
  const loading = shards.acquire('m', manifest, range, { signal })
  await new Promise(resolve => setImmediate(resolve))
  expect(loads).toEqual([])
  freeing.resolve()
  await loading
  expect(loads).toEqual(['cpu'])
})
