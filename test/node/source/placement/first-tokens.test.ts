import { expect, test } from 'vitest'
import { FirstTokens } from '../../../../node/source/placement/first-tokens.ts'

test('first tokens come as much later than their prompts as the last ones of that model did', () => {
  const firsts = new FirstTokens()
  expect(firsts.beyondMs('m')).toBe(0)
  firsts.note('m', 30, 45)
  expect([firsts.beyondMs('m'), firsts.beyondMs('n')]).toEqual([15, 0])
  for (const ms of [50, 50, 300, 50, 50]) firsts.note('m', 30, ms)
  expect(firsts.beyondMs('m')).toBe(20)
})

test('one that comes sooner takes nothing off, and none adds more than a second', () => {
  const firsts = new FirstTokens()
  firsts.note('m', 30, 20)
  firsts.note('m', 30, Number.NaN)
  expect(firsts.beyondMs('m')).toBe(0)
  firsts.note('n', 30, 1e9)
  expect(firsts.beyondMs('n')).toBe(1000)
})
