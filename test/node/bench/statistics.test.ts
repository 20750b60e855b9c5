import { expect, test } from 'vitest'
import { decodeRate, rate, spreadOf, summaryOf } from '../../../node/bench/statistics.ts'

test('the median of an even number of values is between the two in the middle', () => {
  expect(summaryOf([4, 1, 3, 2])).toEqual({ median: 2.5, min: 1, max: 4 })
  expect(summaryOf([7])).toEqual({ median: 7, min: 7, max: 7 })
  expect(spreadOf(summaryOf([9, 10, 12]))).toBeCloseTo(0.3)
})

test('a rate counts what comes after its beginning', () => {
  expect(rate([[0, 100, 200]], 0, 200)).toBe(10)
  expect(rate([[0]], 0, 0)).toBe(0)
})

test('tokens count while all sequences decode', () => {
  // The second one begins at 300 and the first one ends at 500: 2 + 1 tokens in 200 ms.
  const times = [
    [100, 200, 300, 400, 500],
    [300, 450, 600, 750]
  ]
  expect(decodeRate(times)).toBeCloseTo(15)
})

test('sequences that never decode together count over their whole time', () => {
  const times = [
    [0, 100],
    [200, 300]
  ]
  expect(decodeRate(times)).toBeCloseTo(10)
})
