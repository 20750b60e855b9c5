import { expect, test } from 'vitest'
import { paceOf } from '../../node/pace.ts'

const MIB = 1024 ** 2
const load = (done: number) => ({ done: done * MIB, total: 100 * MIB, from: 10 * MIB })

test('how fast weights come and how long they take yet, and the longer the longer nothing comes', () => {
  expect(paceOf(load(10), 8)).toBe('')
  expect(paceOf(load(20), 0.1)).toBe('')
  expect(paceOf(load(20), 2)).toBe(', 5.0 MiB/s, 16 s left')
  expect(paceOf(load(20), 10)).toBe(', 1.0 MiB/s, 80 s left')
  expect(paceOf(load(20), 20)).toBe(', 512.0 KiB/s, 3 min left')
  expect(paceOf(load(100), 98)).toBe(', there')
})

test('what is no bytes has no rate, and of nothing nothing is there', () => {
  expect(paceOf({ done: 3, total: 10 }, 1.5, 'layers')).toBe(', 4 s left')
  expect(paceOf({ done: 0, total: 0 }, 1)).toBe('')
})
