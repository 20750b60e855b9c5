import { expect, test } from 'vitest'
import type { NodeRecord } from '../../../node/api.ts'
import { importanceOf, roomiest } from '../../../node/mesh/link-importance.ts'
import { PROBES_FACTOR, ProbeBudget, REPEATS_TIME_SHARE } from '../../../node/mesh/probe-budget.ts'
import { areBusy } from '../../../node/mesh/starvation.ts'

const HOUR_MS = 3_600_000
const isRepeat = false

test('within any hour a node begins no more than its share, and half of that again', () => {
  let nowMs = 0
  const budget = new ProbeBudget(() => nowMs)
  const most = PROBES_FACTOR * Math.log2(64)
  for (let i = 0; i < most / 2; i++) {
    expect(budget.has(64, { peerId: 'c', isRepeat: true })).toBe(true)
    budget.begin('c', { isRepeat: true })
  }
  expect(budget.has(64, { peerId: 'c', isRepeat: true })).toBe(false)
  nowMs = HOUR_MS / 2
  for (let i = 0; i < most / 2; i++) budget.begin('c', { isRepeat })
  expect(budget.has(64, { peerId: 'c', isRepeat })).toBe(false)
  nowMs = HOUR_MS
  expect(budget.has(64, { peerId: 'c', isRepeat })).toBe(true)
  for (let i = 0; i < most / 2; i++) budget.begin('c', { isRepeat })
  expect(budget.has(64, { peerId: 'c', isRepeat })).toBe(false)
})

test('what was not begun after all is given back, and the smallest meshes have some tries', () => {
  const budget = new ProbeBudget(() => 0)
  for (let i = 0; i < 100; i++) budget.begin('c', { isRepeat }).takeBack()
  for (let i = 0; i < 12; i++) {
    expect(budget.has(2, { peerId: 'c', isRepeat })).toBe(true)
    budget.begin('c', { isRepeat })
  }
  expect(budget.has(2, { peerId: 'c', isRepeat })).toBe(false)
})

test('measuring again takes a stated share of an hour, one link a part of that, and leaves what is unknown its turn', () => {
  let nowMs = 0
  const budget = new ProbeBudget(() => nowMs)
  const mayAgain = (peerId: string) => budget.has(64, { peerId, isRepeat: true })
  const spend = (peerId: string, ms: number) => {
    const probe = budget.begin(peerId, { isRepeat: true })
    nowMs += ms
    probe.end()
  }
  spend('drips', 19_000)
  expect([mayAgain('drips'), mayAgain('c')]).toEqual([false, true])
  let tookMs = 0
  for (const peerId of ['c', 'd', 'e', 'f', 'g']) for (; mayAgain(peerId); tookMs += 1000) spend(peerId, 1000)
  expect(tookMs).toBeGreaterThan(0.7 * REPEATS_TIME_SHARE * HOUR_MS)
  expect(tookMs).toBeLessThan(REPEATS_TIME_SHARE * HOUR_MS)
  expect(budget.has(64, { peerId: 'g', isRepeat })).toBe(true)
  budget.begin('silent', { isRepeat: true })
  nowMs = HOUR_MS
  expect(mayAgain('g')).toBe(true)
})

const device = (peerId: string, change: Partial<NodeRecord> = {}) => ({
  peerId,
  memory: { budgetBytes: 1, freeBytes: 0 },
  leases: [] as NodeRecord['leases'],
  ...change
})
const stage = (layers: [number, number], source = 's', modelId = 'm') => ({ modelId, layers, source })

test('links that a deployment uses matter most, those that one could more than those that none can', () => {
  const [first, second, third] = [
    device('a', { leases: [stage([0, 3])] }),
    device('b', { leases: [stage([3, 5])] }),
    device('c', { leases: [stage([5, 6]), stage([3, 5], 'other')] })
  ]
  expect(importanceOf(first, second)).toBe(2)
  expect(importanceOf(third, second)).toBe(2)
  expect(importanceOf(first, third)).toBe(1)
  expect(importanceOf(device('s'), third)).toBe(2)
  expect(importanceOf(device('x'), device('y'))).toBe(1)
  expect(importanceOf(device('x'), device('y', { memory: { budgetBytes: 0, freeBytes: 0 } }))).toBe(0)
  expect(importanceOf(device('x', { draining: true }), device('y'))).toBe(0)
})

test('a device whose card has no memory left counts with that of its CPU', () => {
  const none = { budgetBytes: 0, freeBytes: 0 }
  const processors = (freeBytes: number) => [
    { kind: 'cpu', name: 'a processor', used: false, memory: { budgetBytes: 100, freeBytes } },
    { kind: 'gpu', name: 'a card', used: true }
  ]
  const both = device('both', { memory: none, processors: processors(80) })
  expect(importanceOf(device('x'), both)).toBe(1)
  const plain = (peerId: string, freeBytes: number) =>
    device(peerId, { memory: { budgetBytes: 100, freeBytes } })
  const devices = [plain('a', 50), plain('b', 90), both, device('c', { memory: none })]
  expect(roomiest(devices, 2).map(({ peerId }) => peerId)).toEqual(['b', 'both'])
})

test('processors are busy where others use what this thread has left of them', () => {
  const none = { busyMs: 0, totalMs: 0, ownMs: 0 }
  expect(areBusy(none, { busyMs: 390, totalMs: 400, ownMs: 100 })).toBe(true)
  expect(areBusy(none, { busyMs: 250, totalMs: 400, ownMs: 200 })).toBe(false)
  // The measurement itself takes the only processor.
  expect(areBusy(none, { busyMs: 200, totalMs: 200, ownMs: 195 })).toBe(false)
  expect(areBusy(none, none)).toBe(false)
})
