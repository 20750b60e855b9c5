import { expect, test } from 'vitest'
import { keepsClasses } from '../../node/bits-class.ts'

test('a plan keeps classes where each layer is computed in the class that it was, however it is cut', () => {
  const before = [{ layers: [0, 4] as const }, { layers: [4, 6] as const, bitsClass: 'gpu' }]
  expect(keepsClasses(before, before)).toBe(true)
  const cut = [{ layers: [0, 2] as const }, { layers: [2, 4] as const }, before[1]!]
  expect(keepsClasses(before, cut)).toBe(true)
  expect(keepsClasses(before, [{ layers: [0, 6] }])).toBe(false)
  expect(keepsClasses(before, [{ layers: [0, 3] }, { layers: [3, 6], bitsClass: 'gpu' }])).toBe(false)
})
