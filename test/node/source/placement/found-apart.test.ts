import { expect, test } from 'vitest'
import { distinctPairs, FoundApart } from '../../../../node/source/placement/found-apart.ts'

test('what an answer found is believed for a minute, and longer where another one finds it', () => {
  let nowMs = 0
  const found = new FoundApart(() => nowMs)
  found.add(['a', 'b'])
  nowMs = 50_000
  found.add(['b', 'a'])
  found.add(['c', 'd'])
  expect(found.pairs).toHaveLength(2)
  nowMs = 60_000
  expect(found.pairs).toHaveLength(2)
  nowMs = 110_000
  expect(found.pairs).toEqual([])
})

test('nothing is held against a device that was gone', () => {
  const found = new FoundApart(() => 0)
  found.add(['a', 'b'])
  found.add(['c', 'b'])
  found.add(['c', 'd'])
  found.forget('b')
  expect(found.pairs).toEqual([['c', 'd']])
})

test('a pair is the same whoever is named first', () => {
  const pairs = [
    ['a', 'b'],
    ['b', 'a'],
    ['a', 'c']
  ] as const
  expect(distinctPairs(pairs)).toHaveLength(2)
})
