import { expect, test } from 'vitest'
import { paceOf } from '../../../node/page/loads-view.ts'

const MIB = 1024 ** 2
const load = (done: number) => ({ done: done * MIB, total: 100 * MIB, doneBefore: 10 * MIB, sinceMs: 1000 })

test('how fast weights come and how long they take yet, and the longer the longer nothing comes', () => {
  expect(paceOf(load(10), 9000)).toBe('')
  expect(paceOf(load(20), 1100)).toBe('')
  expect(paceOf(load(20), 3000)).toBe(', 5.0 MiB/s, 16 s left')
  expect(paceOf(load(20), 11_000)).toBe(', 1.0 MiB/s, 80 s left')
  expect(paceOf(load(20), 21_000)).toBe(', 512.0 KiB/s, 3 min left')
  expect(paceOf(load(100), 99_000)).toBe(', there')
})
