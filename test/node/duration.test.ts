import { expect, test } from 'vitest'
import { FOREVER_MS, parseDuration } from '../../node/duration.ts'

test.each([
  [0, 0],
  [300, 300_000],
  [0.5, 500],
  ['0', 0],
  ['300', 300_000],
  ['5m', 300_000],
  ['1h30m', 5_400_000],
  ['1.5h', 5_400_000],
  ['250ms', 250],
  [' 10s ', 10_000]
])('%j is a time', (value, ms) => expect(parseDuration(value)).toBe(ms))

test.each([-1, '-1', '-5m', '100000h', 1e12, Number.POSITIVE_INFINITY])('%j is without end', value =>
  expect(parseDuration(value)).toBe(FOREVER_MS)
)

test.each(['', 'forever', '5 minutes', '5m x', 'm', '1e3', Number.NaN])('%j is none', value =>
  expect(parseDuration(value)).toBeUndefined()
)
