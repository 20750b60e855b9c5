import { expect, test } from 'vitest'
import { keptLengths } from '../../../models/runtime/kept-states.ts'

test.each<[string, number, number[], number[]]>([
  ['the last chunk of a prompt, and its end', 0, [32, 32, 20, 1, 1, 1], [64, 84]],
  ['a prompt of one chunk has its end only', 0, [20, 1, 1], [20]],
  ['a prompt that is not over', 0, [32, 32], [32]],
  ['a lone last token is where its chunks end', 0, [32, 1, 1, 1], [32]],
  ['a turn that goes on from another one', 84, [32, 16, 1], [116, 132]],
  ['single tokens behind what was kept keep nothing more', 84, [1, 1], []]
])('kept are %s', (_, from, steps, lengths) => {
  expect(keptLengths(from, steps)).toEqual(lengths)
})
