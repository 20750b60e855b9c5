import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { MAX_PARTS, PART_BYTES, SHARD_BYTES } from '../../../models/runtime/memory.ts'
import { LeaseTable } from '../../../node/stage/lease-table.ts'

const request = (over: object = {}) => ({
  source: 'A',
  modelId: 'm',
  range: [0, 4] as const,
  weightBytes: 60,
  ownBytes: 40,
  ...over
})

function table(budgetBytes: number, clock = { nowMs: 0 }): LeaseTable {
  return new LeaseTable({ budgetBytes, termMs: 1000, now: () => clock.nowMs })
}

type Request = Parameters<LeaseTable['reserve']>[0][number]

function reserve(leases: LeaseTable, one: Request) {
  return leases.reserve([one])?.[0]
}

describe('LeaseTable', () => {
  it('grants an exact fit and refuses one byte more', () => {
    expect(reserve(table(100), request())).toBeDefined()
    expect(reserve(table(99), request())).toBeUndefined()
  })

  it('offers less once its memory has turned out to be less, keeps what is held, and refuses what waits for more', async () => {
    const leases = table(200)
    const held = reserve(leases, request())!
    const waiting = [
      request({ source: 'B', modelId: 'n' }),
      request({ source: 'C', modelId: 'o', ownBytes: 20 })
    ]
    reserve(leases, request({ source: 'D', modelId: 'p' }))
    const [large, small] = waiting.map(one => leases.acquire([one], { waitMs: 1000 }))
    leases.lowerBudget(90)
    expect(await large).toBeUndefined()
    expect(leases.budgetBytes).toBe(90)
    expect(leases.heldBytes).toBe(200)
    expect(leases.freeBytes).toBe(0)
    leases.lowerBudget(150)
    expect(leases.budgetBytes).toBe(90)
    for (const { id } of leases.state(() => 0)) leases.release(id)
    expect(await small).toHaveLength(1)
    expect(leases.renew(held.id)).toBe(false)
  })

  it('counts the weights of one range once, each KV cache by itself', () => {
    const leases = table(140)
    reserve(leases, request())
    expect(leases.freeBytes).toBe(40)
    expect(reserve(leases, request({ source: 'B' }))).toBeDefined()
    expect(leases.freeBytes).toBe(0)
    expect(reserve(leases, request({ range: [4, 5], weightBytes: 1, ownBytes: 0 }))).toBeUndefined()
  })

  it('has one that yields make room, used as it is, where all that is idle does not do, and offers none of it before', () => {
    const leases = table(300)
    const evicted: string[] = []
    leases.events.on('evict', ({ modelId }) => evicted.push(modelId))
    reserve(leases, request({ modelId: 'draft', yields: true }))
    const idle = reserve(leases, request({ modelId: 'idle' }))!
    leases.setIdle(idle.id, true)
    expect(leases.freeBytes).toBe(200)
    expect(reserve(leases, request({ modelId: 'used', weightBytes: 160 }))).toBeDefined()
    expect(evicted).toEqual(['idle'])
    expect(leases.freeBytes).toBe(0)
    expect(reserve(leases, request({ modelId: 'other' }))).toBeDefined()
    expect(evicted).toEqual(['idle', 'draft'])
    expect(reserve(leases, request({ modelId: 'third' }))).toBeUndefined()
    expect(evicted).toEqual(['idle', 'draft'])
  })

  it('counts a thread for every shard beyond the first eight, however small they are', () => {
    const leases = table(SHARD_BYTES + 8)
    const tiny = (start: number) => request({ range: [start, start + 1], weightBytes: 1, ownBytes: 0 })
    for (let i = 0; i < 8; i++) expect(reserve(leases, tiny(i))).toBeDefined()
    // What is free is what the next one can have.
    expect(leases.freeBytes).toBe(0)
    expect(reserve(leases, tiny(8))).toBeUndefined()
    // One more on a shard that is there is no thread more.
    expect(reserve(leases, { ...tiny(7), source: 'B' })).toBeDefined()
  })

  it('counts a thread for every part of a large shard, and offers what the next one can have', () => {
    const large = (start: number, weightBytes = 2 * PART_BYTES) =>
      request({ range: [start, start + 1], weightBytes, ownBytes: 0 })
    // Four shards of two parts are eight threads; a fifth has two more.
    const leases = table(10 * PART_BYTES + 2 * SHARD_BYTES)
    for (let i = 0; i < 4; i++) expect(reserve(leases, large(i))).toBeDefined()
    expect(leases.freeBytes).toBe(2 * PART_BYTES)
    expect(reserve(leases, large(4, leases.freeBytes + 1))).toBeUndefined()
    expect(reserve(leases, large(4, leases.freeBytes))).toBeDefined()
    expect(leases.freeBytes).toBe(0)
    // What is left for one part is not enough for the second one's thread.
    const between = table(10 * PART_BYTES + 2 * SHARD_BYTES - 1)
    for (let i = 0; i < 4; i++) reserve(between, large(i))
    expect(between.freeBytes).toBe(2 * PART_BYTES - 1)
    expect(reserve(between, large(4))).toBeUndefined()
    expect(reserve(between, large(4, between.freeBytes))).toBeDefined()
    // However large: two of the most parts are still eight threads.
    const huge = table(1000 * PART_BYTES)
    reserve(huge, large(0, 100 * PART_BYTES))
    expect(huge.freeBytes).toBe(900 * PART_BYTES)
    reserve(huge, large(1, 100 * PART_BYTES))
    expect(huge.freeBytes).toBe(800 * PART_BYTES - MAX_PARTS * SHARD_BYTES)
  })

  it('holds so many leases and no more, of which a source has half, however small; idle ones make room', () => {
    const leases = table(1e9)
    const same = (source: string) => request({ source, weightBytes: 1, ownBytes: 0 })
    const held = [...Array(16).fill('A'), ...Array(16).fill('B')].map(
      source => reserve(leases, same(source))!
    )
    expect(held.every(lease => lease !== undefined)).toBe(true)
    expect(leases.freeBytes).toBe(0)
    expect(reserve(leases, same('C'))).toBeUndefined()
    leases.setIdle(held[20]!.id, true)
    expect(leases.freeBytes).toBe(1e9 - 1)
    expect(reserve(leases, same('C'))).toBeDefined()
    leases.release(held[0]!.id)
    expect(reserve(leases, same('A'))).toBeDefined()
    leases.release(held[21]!.id)
    expect(reserve(leases, same('A'))).toBeUndefined()
  })

  it('says what no lease holds, not even an idle one that would make room, and nobody waits for', () => {
    const leases = table(300)
    const { id } = reserve(leases, request())!
    leases.setIdle(id, true)
    expect([leases.freeBytes, leases.unheldBytes]).toEqual([300, 200])
    reserve(leases, request({ range: [4, 8] }))
    void leases.acquire([request({ range: [8, 9], weightBytes: 250 })], { waitMs: 1000 })
    expect(leases.unheldBytes).toBe(0)
    leases.release(id)
    expect(leases.unheldBytes).toBe(0)
  })

  it('frees what expires, keeps what is renewed', () => {
    const clock = { nowMs: 0 }
    const leases = table(300, clock)
    const kept = reserve(leases, request())!
    const lost = reserve(leases, request({ range: [4, 8] }))!
    clock.nowMs = 999
    expect(leases.renew(kept.id)).toBe(true)
    clock.nowMs = 1000
    expect(leases.expire().map(lease => lease.id)).toEqual([lost.id])
    expect(leases.renew(lost.id)).toBe(false)
    expect(leases.freeBytes).toBe(200)
  })

  it('ends the leases of a model when all of them wait for a session, and not while one is used', () => {
    const leases = table(300)
    const evicted: string[] = []
    leases.events.on('evict', ({ id }) => evicted.push(id))
    expect([leases.useOf('m'), leases.evictIdle('m')]).toEqual(['no', true])
    const [one, two] = [reserve(leases, request())!, reserve(leases, request({ source: 'B' }))!]
    const other = reserve(leases, request({ modelId: 'other' }))!
    for (const { id } of [one, other]) leases.setIdle(id, true)
    expect([leases.useOf('m'), leases.evictIdle('m')]).toEqual(['busy', false])
    leases.setIdle(two.id, true)
    expect([leases.useOf('m'), leases.evictIdle('m')]).toEqual(['idle', true])
    expect(evicted).toEqual([one.id, two.id])
    expect(leases.state(() => 0).map(({ id }) => id)).toEqual([other.id])
  })

  it('lets nobody overtake who stands in line, and counts what is waited for as taken', async () => {
    const leases = table(100)
    const first = reserve(leases, request())!
    const large = leases.acquire([request({ source: 'B', range: [4, 8] })], { waitMs: 500 })
    const small = { source: 'C', range: [8, 9], weightBytes: 1, ownBytes: 0 }
    const behind = leases.acquire([request(small)], { waitMs: 500 })
    expect([leases.freeBytes, leases.waiting]).toEqual([0, 2])
    leases.setIdle(first.id, true)
    expect((await large)?.[0]).toMatchObject({ source: 'B' })
    expect(reserve(leases, request(small))).toBeUndefined()
    leases.release((await large)![0]!.id)
    expect(await behind).toHaveLength(1)
    expect(leases.freeBytes).toBe(99)
  })

  it('refuses who has waited for too long, aborts, has too many places, or wants more than there is', async () => {
    const clock = { nowMs: 0 }
    const leases = table(100, clock)
    const held = reserve(leases, request())!
    const wait = (options: { waitMs: number; signal?: AbortSignal }) =>
      leases.acquire([request({ source: 'B', range: [4, 8] })], options)
    expect(await leases.acquire([request({ weightBytes: 61 })], { waitMs: 500 })).toBeUndefined()
    const late = wait({ waitMs: 500 })
    const abort = new AbortController()
    const aborted = wait({ waitMs: 5000, signal: abort.signal })
    abort.abort()
    expect(await aborted).toBeUndefined()
    clock.nowMs = 500
    leases.expire()
    expect(await late).toBeUndefined()
    const patient = Array.from({ length: 8 }, () => wait({ waitMs: 5000 }))
    expect(await wait({ waitMs: 5000 })).toBeUndefined()
    leases.release(held.id)
    expect(await patient[0]).toHaveLength(1)
  })

  it('grants several ranges together or none of them', async () => {
    const leases = table(150)
    const both = [request({ ownBytes: 10 }), request({ range: [4, 8], ownBytes: 21 })]
    expect(await leases.acquire(both)).toBeUndefined()
    expect(leases.freeBytes).toBe(150)
    expect(await leases.acquire([both[0]!, request({ range: [4, 8], ownBytes: 20 })])).toHaveLength(2)
  })

  it('takes the idle lease that is worth least: whose weights stay anyway, or that was seldom used', () => {
    const clock = { nowMs: 0 }
    const evicted: string[] = []
    const leases = new LeaseTable({
      budgetBytes: 400,
      termMs: 1e6,
      now: () => clock.nowMs
    })
    leases.events.on('evict', ({ source }) => void evicted.push(source))
    const used = (source: string, range: readonly [number, number], times: number) => {
      const { id } = reserve(leases, request({ source, range }))!
      for (let i = 0; i < times; i++) {
        leases.setIdle(id, false)
        leases.setIdle(id, true)
      }
    }
    used('often', [0, 4], 9)
    used('seldom', [4, 8], 1)
    used('oftener', [0, 4], 20)
    used('now and then', [8, 12], 3)
    clock.nowMs = 1000
    const wanted = (range: readonly [number, number]) => reserve(leases, request({ range, source: 'new' }))
    expect(wanted([20, 24])).toBeDefined()
    expect(evicted).toEqual(['often'])
    expect(wanted([24, 28])).toBeDefined()
    expect(evicted).toEqual(['often', 'seldom'])
  })

  it('spares a small idle lease where a larger one alone makes the room', () => {
    const evicted: string[] = []
    const leases = new LeaseTable({
      budgetBytes: 130,
      termMs: 1e6,
      now: () => 0
    })
    leases.events.on('evict', ({ source }) => void evicted.push(source))
    for (const [source, ownBytes] of [
      ['small', 10],
      ['large', 100]
    ] as const) {
      const range = source === 'small' ? ([0, 1] as const) : ([1, 2] as const)
      leases.setIdle(reserve(leases, request({ source, range, weightBytes: 10, ownBytes }))!.id, true)
    }
    expect(reserve(leases, request({ range: [5, 6], weightBytes: 100, ownBytes: 0 }))).toBeDefined()
    expect(evicted).toEqual(['large'])
  })

  it('never exceeds its budget and returns to zero, whatever is asked', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            weightBytes: fc.nat(50),
            ownBytes: fc.nat(50),
            start: fc.nat(3),
            release: fc.boolean()
          }),
          { maxLength: 60 }
        ),
        asks => {
          const leases = table(120)
          const held: string[] = []
          for (const { weightBytes, ownBytes, start, release } of asks) {
            // A range's weights are always the same size: they are the same file.
            const lease = reserve(
              leases,
              request({ weightBytes: start * 20 + (weightBytes % 1), ownBytes, range: [start, 9] })
            )
            if (lease !== undefined) held.push(lease.id)
            expect(leases.freeBytes).toBeGreaterThanOrEqual(0)
            if (release && held.length > 0) leases.release(held.pop()!)
          }
          for (const id of held) leases.release(id)
          expect(leases.freeBytes).toBe(120)
        }
      )
    )
  })
})
