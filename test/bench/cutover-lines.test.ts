import { expect, test } from 'vitest'
import { cutoverLines } from './cutover-lines.ts'

test('what happened and the moves come in their order, the longest gap in ms and in token times', () => {
  const gapsMs = Array.from({ length: 99 }, (_, i) => (i === 69 ? 50 : 20))
  const lines = cutoverLines({
    happened: [
      { what: 'c joins', tokens: 25, atMs: 0 },
      { what: 'c is drained', tokens: 90, atMs: 1 }
    ],
    moves: [
      {
        ...{ reason: 'faster', tokens: 70, from: 'a > b', to: 'a > c' },
        ...{ loadMs: 341, catchUpMs: 224, gapMs: 50, gapTokens: 2.5 }
      }
    ],
    gapsMs
  })
  expect(lines).toEqual([
    'at token 25: c joins',
    'at token 70: a > b -> a > c, faster; loaded in 341 ms, caught up in 224 ms; gap 50.0 ms, 2.50 token times',
    'at token 90: c is drained',
    'between two tokens: median 20.0 ms, p99 50.0 ms, longest 50.0 ms, 2.50 token times, at token 70'
  ])
})
