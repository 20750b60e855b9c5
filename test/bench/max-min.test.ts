import { expect, test } from 'vitest'
import { maxMinFair } from './max-min.ts'

test('who shares less has more, and nobody has more at the cost of who has less', () => {
  const capacities = new Map([
    ['a', 1],
    ['b', 1]
  ])
  expect(maxMinFair([['a'], ['a'], ['b']], capacities)).toEqual([0.5, 0.5, 1])
  // The one that needs both is held up by the fuller one, and leaves the rest of the other to who has it alone.
  const rates = maxMinFair([['a'], ['a'], ['a', 'b'], ['b']], capacities)
  const expected = [1 / 3, 1 / 3, 1 / 3, 2 / 3]
  for (const [user, rate] of rates.entries()) expect(rate).toBeCloseTo(expected[user]!)
})
