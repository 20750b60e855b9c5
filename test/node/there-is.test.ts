import { expect, test } from 'vitest'
import { listed, thereIs } from '../../node/there-is.ts'

test('what there is to choose from is said in the number that it has', () => {
  expect([[], ['a'], ['a', 'b'], ['a', 'b', 'c']].map(thereIs)).toEqual([
    'there is none',
    'there is only a',
    'there are a and b',
    'there are a, b and c'
  ])
  expect(listed([])).toBe('')
})
