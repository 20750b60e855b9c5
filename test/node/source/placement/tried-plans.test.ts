import { expect, test } from 'vitest'
import type { LayerRange } from '../../../../models/layers.ts'
import { TriedPlans } from '../../../../node/source/placement/tried-plans.ts'

const of = { modelId: 'm', objective: 'latency' } as const
const cut = (peerId: string, microBatches = 1) => ({
  stages: [
    { peerId: 'a', layers: [0, 2] as LayerRange },
    { peerId, layers: [2, 5] as LayerRange }
  ],
  microBatches
})
const MINUTE_MS = 60_000

test('a placement is known by the median of its last answers, and by no single one', () => {
  const tried = new TriedPlans(() => 0)
  tried.note(of, cut('b'), 1.2)
  expect(tried.ratioOf(of, cut('b'))).toBeUndefined()
  tried.note(of, cut('b'), 1.4)
  expect(tried.ratioOf(of, cut('b'))).toBe(1.2)
  // What another one is left for has to be better than by luck.
  expect(tried.known(of)).toEqual([{ cut: cut('b'), ratio: 1.4 }])
  for (const ratio of [2, 2, 2, 9]) tried.note(of, cut('b'), ratio)
  expect(tried.ratioOf(of, cut('b'))).toBe(2)
  // Of another objective, model, device or number of micro-batches, or of exact answers, it says nothing.
  expect(tried.ratioOf({ ...of, exact: true }, cut('b'))).toBeUndefined()
  expect(tried.ratioOf({ ...of, objective: 'throughput' }, cut('b'))).toBeUndefined()
  expect(tried.ratioOf({ ...of, modelId: 'n' }, cut('b'))).toBeUndefined()
  expect(tried.ratioOf(of, cut('c'))).toBeUndefined()
  expect(tried.ratioOf(of, cut('b', 2))).toBeUndefined()
  expect(tried.known(of)).toEqual([{ cut: cut('b'), ratio: 2 }])
})

test('what is old, or cannot be, does not count', () => {
  let nowMs = 0
  const tried = new TriedPlans(() => nowMs)
  for (const ratio of [Number.NaN, 0, -1, 1e9, Number.POSITIVE_INFINITY]) tried.note(of, cut('b'), ratio)
  expect(tried.known(of)).toEqual([])
  tried.note(of, cut('b'), 1)
  tried.note(of, cut('b'), 1)
  nowMs = 9 * MINUTE_MS
  expect(tried.ratioOf(of, cut('b'))).toBe(1)
  nowMs = 11 * MINUTE_MS
  expect(tried.ratioOf(of, cut('b'))).toBeUndefined()
})

test('only so many are kept, those that were run last', () => {
  const tried = new TriedPlans(() => 0)
  for (let i = 0; i < 20; i++) for (let j = 0; j < 2; j++) tried.note(of, cut(`p${i}`), 1)
  expect(tried.known(of).map(({ cut }) => cut.stages[1]!.peerId)).toEqual(
    Array.from({ length: 16 }, (_, i) => `p${i + 4}`)
  )
})
