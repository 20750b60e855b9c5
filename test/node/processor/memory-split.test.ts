import { EventEmitter } from 'node:events'
import { expect, test } from 'vitest'
import { MemorySplit } from '../../../node/processor/memory-split.ts'
import type { StageRuntime } from '../../../node/processor/stage-runtime.ts'
import { LeaseTable } from '../../../node/stage/lease-table.ts'

const MIB = 1024 * 1024
const [GPU, CPU] = [600 * MIB, 400 * MIB]

function split() {
  const table = (budgetBytes: number) => new LeaseTable({ budgetBytes, termMs: 1000, now: () => 0 })
  const [used, beside] = [table(GPU), table(CPU)]
  const events: StageRuntime['events'] = new EventEmitter()
  const processor: { kind: 'cpu' | 'gpu' } = { kind: 'gpu' }
  const memories = { budgetBytes: GPU, besideBytes: CPU }
  const shared = new MemorySplit({ runtime: { processor, events }, used, beside, memories })
  const to = (kind: 'cpu' | 'gpu') => {
    processor.kind = kind
    events.emit('change')
  }
  const take = (table: LeaseTable, mib: number, modelId = 'm') =>
    table.reserve([{ source: 's', modelId, range: [0, 1], weightBytes: 0, ownBytes: mib * MIB }])?.[0]
  const budgets = () => [used.budgetBytes, beside.budgetBytes]
  return { used, beside, shared, to, take, budgets }
}

test('each has its part while the GPU is used, and the CPU in its place all of it while it is not', () => {
  const { to, budgets } = split()
  expect(budgets()).toEqual([GPU, CPU])
  to('cpu')
  expect(budgets()).toEqual([GPU + CPU, 0])
  to('gpu')
  expect(budgets()).toEqual([GPU, CPU])
})

test('what is held stays, and the other side has it when it is given back: no byte is promised twice', () => {
  const { used, beside, to, take, budgets } = split()
  const running = take(beside, 200)!
  const idle = take(beside, 100, 'another')!
  beside.setIdle(idle.id, true)
  const evicted: string[] = []
  beside.events.on('evict', ({ id }) => evicted.push(id))
  to('cpu')
  expect(evicted).toEqual([idle.id])
  expect(used.budgetBytes + beside.heldBytes).toBe(GPU + CPU)
  expect(take(beside, 1)).toBeUndefined()
  // The answer that it was for goes on where all of it fits.
  beside.setIdle(running.id, true)
  expect(budgets()).toEqual([GPU + CPU, 0])
  const all = take(used, 900)!
  to('gpu')
  expect(used.budgetBytes).toBe(GPU)
  expect(beside.budgetBytes).toBe(GPU + CPU - used.heldBytes)
  expect(take(used, 1)).toBeUndefined()
  used.release(all.id)
  expect(budgets()).toEqual([GPU, CPU])
})

test('what the GPU turns out to lack is the CPU’s', () => {
  const { shared, budgets, to } = split()
  shared.lowerBudget(500 * MIB)
  expect(budgets()).toEqual([500 * MIB, 500 * MIB])
  expect(shared.budgetBytes).toBe(500 * MIB)
  to('cpu')
  to('gpu')
  expect(budgets()).toEqual([500 * MIB, 500 * MIB])
})
