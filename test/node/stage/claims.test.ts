import { expect, test } from 'vitest'
import { Claims } from '../../../node/stage/claims.ts'

const MINUTE_MS = 60_000

function claims() {
  const clock = { nowMs: 0 }
  return { clock, kept: new Claims(() => clock.nowMs) }
}

test('a claim is used up by what it was for, and lapses where nobody asks again', () => {
  const { clock, kept } = claims()
  expect(kept.note('a', 'm')).toBe(0)
  clock.nowMs = 1000
  expect(kept.note('a', 'm')).toBe(0)
  expect(kept.note('a', 'n')).toBe(1000)
  kept.settle('a', 'm')
  expect(kept.note('a', 'm')).toBe(1000)
  clock.nowMs = 10 * MINUTE_MS
  expect(kept.note('a', 'm')).toBe(clock.nowMs)
})

test('it grows no older than an hour, and who is the first and does not come is the last after a quarter of one', () => {
  const { clock, kept } = claims()
  const ages = (of: string) => {
    const seen: number[] = []
    for (clock.nowMs = 0; clock.nowMs < 180 * MINUTE_MS; clock.nowMs += MINUTE_MS) {
      seen.push(clock.nowMs - kept.note(of, 'm'))
      if (of === 'first') kept.isFirst(of, 'm')
    }
    return Math.max(...seen)
  }
  expect(ages('patient')).toBe(60 * MINUTE_MS)
  expect(ages('first')).toBe(15 * MINUTE_MS)
})

test('a source has eight claims, and all have 256 together: what is beyond counts from when it comes', () => {
  const { clock, kept } = claims()
  for (let i = 0; i < 20; i++) kept.note('greedy', `m${i}`)
  for (let i = 0; i < 1000; i++) kept.note(`s${i}`, 'm')
  clock.nowMs = 1000
  const since = (count: number, note: (i: number) => number) =>
    Array.from({ length: count }, (_, i) => note(i)).filter(ms => ms === 0).length
  expect(since(20, i => kept.note('greedy', `m${i}`))).toBe(8)
  expect(since(1000, i => kept.note(`s${i}`, 'm'))).toBe(248)
})
