import { expect, test } from 'vitest'
import { bitsClassOf, keepsClasses } from '../../node/bits-class.ts'

const CPU = { kind: 'cpu', name: 'a processor', used: false }
const GPU = { kind: 'gpu', name: 'a card', used: true }

test('a class is of the processor that is used, and of what trying its kernels has found', () => {
  expect(bitsClassOf({})).toBeUndefined()
  expect(
    bitsClassOf({
      processors: [
        { ...CPU, used: true },
        { ...GPU, used: false }
      ]
    })
  ).toBeUndefined()
  expect(bitsClassOf({ processors: [CPU, GPU] })).toBe('gpu')
  expect(bitsClassOf({ processors: [CPU, { ...GPU, keepsBits: false }] })).toBe('gpu')
  expect(bitsClassOf({ processors: [CPU, { ...GPU, keepsBits: true }] })).toBe('gpu-exact')
})

test('a plan keeps classes where each layer is computed in the class that it was, however it is cut', () => {
  const before = [{ layers: [0, 4] as const }, { layers: [4, 6] as const, bitsClass: 'gpu' }]
  expect(keepsClasses(before, before)).toBe(true)
  const cut = [{ layers: [0, 2] as const }, { layers: [2, 4] as const }, before[1]!]
  expect(keepsClasses(before, cut)).toBe(true)
  expect(keepsClasses(before, [{ layers: [0, 6] }])).toBe(false)
  expect(keepsClasses(before, [{ layers: [0, 3] }, { layers: [3, 6], bitsClass: 'gpu' }])).toBe(false)
})
