import { expect, test } from 'vitest'
import { type Arrival, steadyRate } from '../../../protocols/links/steady-rate.ts'

const PIECE = 64_000
const PIECES = 64
/** 500 Mbps. */
const RATE = 62_500

/** Pieces as the link lets them through, each read at `readMs` of that time. */
function burst(readMs: (atMs: number) => number = atMs => atMs): Arrival[] {
  return Array.from({ length: PIECES }, (_, i) => ({
    bytes: (i + 1) * PIECE,
    atMs: readMs((i * PIECE) / RATE)
  }))
}

/** What arrives while the stream is not read is read at the end of it. */
const held = (fromMs: number, toMs: number) => (atMs: number) => (atMs > fromMs && atMs < toMs ? toMs : atMs)

test('pieces in even distances are their rate', () => {
  expect(steadyRate(burst())).toBeCloseTo(RATE, 3)
})

test.each([
  ['in the middle', 30, 45],
  ['at the end', 56, 70],
  ['at the start', -1, 20]
])('a process that was held up %s is not a slow link', (_, fromMs, toMs) => {
  expect(Math.abs(steadyRate(burst(held(fromMs, toMs))) / RATE - 1)).toBeLessThan(0.05)
})

test('a slow start is not the link', () => {
  const slow = burst(atMs => (atMs < 20 ? 3 * atMs : atMs + 40))
  const [first, last] = [slow[0]!, slow.at(-1)!]
  expect((last.bytes - first.bytes) / (last.atMs - first.atMs)).toBeLessThan(0.7 * RATE)
  expect(steadyRate(slow)).toBeCloseTo(RATE, -3)
})

test('of pieces that came together nothing can be said', () => {
  expect(steadyRate(burst(held(15, 60)))).toBe(0)
  expect(steadyRate([{ bytes: 8192, atMs: 5 }])).toBe(0)
  expect(steadyRate([])).toBe(0)
})

test('a few pieces are taken from the first to the last', () => {
  const pieces = [
    { bytes: 4096, atMs: 100 },
    { bytes: 8192, atMs: 133 },
    { bytes: 12_288, atMs: 166 }
  ]
  expect(steadyRate(pieces)).toBeCloseTo(8192 / 66, 6)
})
