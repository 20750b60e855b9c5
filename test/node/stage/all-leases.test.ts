import { expect, test } from 'vitest'
import { AllLeases } from '../../../node/stage/all-leases.ts'
import { LeaseTable } from '../../../node/stage/lease-table.ts'

const request = { source: 's', modelId: 'm', range: [0, 1] as const, weightBytes: 1, ownBytes: 1 }
const table = () => new LeaseTable({ budgetBytes: 2 ** 30, termMs: 1000, now: () => 0 })

test('a model is in use where any processor uses it, and idle leases of it end on all', () => {
  const [gpu, cpu] = [table(), table()]
  const all = new AllLeases([gpu, cpu])
  expect([all.useOf('m'), all.evictIdle('m')]).toEqual(['no', true])
  const [idle] = gpu.reserve([request])!
  const [busy] = cpu.reserve([request])!
  gpu.setIdle(idle!.id, true)
  expect([all.useOf('m'), all.evictIdle('m')]).toEqual(['busy', false])
  expect(gpu.heldBytes).toBeGreaterThan(0)
  cpu.setIdle(busy!.id, true)
  expect(all.useOf('m')).toBe('idle')
  expect(all.evictIdle('m')).toBe(true)
  expect([gpu.heldBytes, cpu.heldBytes]).toEqual([0, 0])
})
