import { expect, test } from 'vitest'
import { countDecoded, rate, rateOf, spreadOf, summaryOf } from '../../../node/bench/statistics.ts'

/** So many times, `everyMs` apart. */
const timesFrom = (firstMs: number, everyMs: number, count: number) =>
  Array.from({ length: count }, (_, i) => firstMs + i * everyMs)

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
  // The second one begins at 300 and the first one ends at 1200: 9 + 18 tokens in 900 ms.
  const times = [Array.from({ length: 12 }, (_, i) => 100 * (i + 1)), timesFrom(300, 50, 30)]
  expect(countDecoded(times)).toEqual({ tokens: 27, least: 9, ms: 900, together: true })
  expect(rateOf(countDecoded(times))).toBeCloseTo(30)
})

test('no rate is made of the moment in which the last sequence begins as the first one ends', () => {
  // One token of the second sequence comes 0.5 ms behind the first one's last but one.
  const times = [timesFrom(0, 1, 95), timesFrom(93.5, 0.1, 95)]
  const counted = countDecoded(times)
  expect(counted.together).toBe(false)
  expect(rateOf(counted)).toBeLessThan((1000 * 190) / 102)
})

test('a rate of few tokens says of how many', () => {
  expect(countDecoded([timesFrom(0, 10, 4)])).toEqual({ tokens: 3, least: 3, ms: 30, together: true })
})

test('sequences that never decode together count over their whole time', () => {
  const times = [
    [0, 100],
    [200, 300]
  ]
  expect(countDecoded(times)).toEqual({ tokens: 3, least: 1, ms: 300, together: false })
})
