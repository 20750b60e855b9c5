import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { LeaseTable } from '../../../node/serve/lease-table.ts'

const request = (over: object = {}) => ({
  source: 'A',
  modelId: 'm',
  range: [0, 4] as const,
  weightBytes: 60,
  kvBytes: 40,
  ...over
})

function table(budgetBytes: number, clock = { nowMs: 0 }): LeaseTable {
  return new LeaseTable({ budgetBytes, termMs: 1000, now: () => clock.nowMs })
}

describe('LeaseTable', () => {
  it('grants an exact fit and refuses one byte more', () => {
    expect(table(100).reserve(request())).toBeDefined()
    expect(table(99).reserve(request())).toBeUndefined()
  })

  it('counts the weights of one range once, each KV cache by itself', () => {
    const leases = table(140)
    leases.reserve(request())
    expect(leases.freeBytes).toBe(40)
    expect(leases.reserve(request({ source: 'B' }))).toBeDefined()
    expect(leases.freeBytes).toBe(0)
    expect(leases.reserve(request({ range: [4, 5], weightBytes: 1, kvBytes: 0 }))).toBeUndefined()
  })

  it('frees what expires, keeps what is renewed', () => {
    const clock = { nowMs: 0 }
    const leases = table(300, clock)
    const kept = leases.reserve(request())!
    const lost = leases.reserve(request({ range: [4, 8] }))!
    clock.nowMs = 999
    expect(leases.renew(kept.id)).toBe(true)
    clock.nowMs = 1000
    expect(leases.expire().map(lease => lease.id)).toEqual([lost.id])
    expect(leases.renew(lost.id)).toBe(false)
    expect(leases.freeBytes).toBe(200)
  })

  it('never exceeds its budget and returns to zero, whatever is asked', () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            weightBytes: fc.nat(50),
            kvBytes: fc.nat(50),
            start: fc.nat(3),
            release: fc.boolean()
          }),
          { maxLength: 60 }
        ),
        asks => {
          const leases = table(120)
          const held: string[] = []
          for (const { weightBytes, kvBytes, start, release } of asks) {
            // A range's weights are always the same size: they are the same file.
            const lease = leases.reserve(
              request({ weightBytes: start * 20 + (weightBytes % 1), kvBytes, range: [start, 9] })
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
