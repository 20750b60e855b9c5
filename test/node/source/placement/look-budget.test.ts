import { expect, test } from 'vitest'
import { LookBudget } from '../../../../node/source/placement/look-budget.ts'

/** How many looks are let, where such members have changed every 50 ms of an hour. */
function looksOf(membersAt: (nowMs: number) => string[], budget = new LookBudget()): number {
  let looks = 0
  for (let nowMs = 0; nowMs < 3_600_000; nowMs += 50) if (budget.take(membersAt(nowMs), nowMs)) looks++
  return looks
}

test('a member that changes without end causes a few looks a minute, and all together no more than one in two seconds', () => {
  expect(looksOf(() => ['a'])).toBeLessThan(130)
  expect(looksOf(() => ['a'])).toBeGreaterThan(110)
  const many = Array.from({ length: 128 }, (_, i) => `m${i}`)
  let at = 0
  expect(looksOf(() => [many[at++ % many.length]!])).toBeLessThan(1820)
  expect(looksOf(() => many)).toBeLessThan(1820)
})

test('who joins while another changes without end is looked at at once, and where all do a moment later', () => {
  const budget = new LookBudget()
  looksOf(() => ['a'], budget)
  const nowMs = 3_599_990
  expect(budget.take(['a'], nowMs)).toBe(false)
  expect([1, 2, 3, 4].map(() => budget.take(['a', 'b'], nowMs))).toEqual([true, true, true, true])
  expect(budget.take(['b'], nowMs)).toBe(false)
  expect(budget.take(['b'], nowMs + 30_000)).toBe(true)
  expect(budget.take([], nowMs + 30_000)).toBe(false)
})
