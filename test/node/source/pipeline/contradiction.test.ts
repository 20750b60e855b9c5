import { expect, test } from 'vitest'
import { contradictionIn } from '../../../../node/source/pipeline/contradiction.ts'
import type { StageTiming } from '../../../../protocols/stage/frame.ts'

const T = 1_790_000_000_000
const own: StageTiming = { arrivedAtMs: T, sentAtMs: T + 2, computeMs: 1.5 }
/** By a clock that is 5 s off. */
const peer = (spanMs: number, computeMs: number): StageTiming => ({
  arrivedAtMs: T + 5000,
  sentAtMs: T + 5000 + spanMs,
  computeMs
})

test.each<[string, StageTiming[], string | undefined]>([
  ['what fits into the step', [own, peer(6, 5)], undefined],
  [
    'its compute time as the wire rounds it',
    [own, { ...peer(5, 5), computeMs: Math.fround(5.00001) }],
    undefined
  ],
  ['hardly any time', [own, peer(0.1, 0.1)], undefined],
  ['more than the step took', [own, peer(20, 20)], 'the stages have spent 22 ms of a step of 10 ms'],
  [
    'more in sum than the step took',
    [own, peer(7, 5), peer(7, 5)],
    'the stages have spent 16 ms of a step of 10 ms'
  ],
  ['more computing than it had time', [own, peer(2, 8)], 'a stage has computed for 8 ms of 2 ms'],
  ['a result before its input', [own, peer(-3, 1)], 'a stage has computed for 1 ms of -3 ms'],
  ['less than nothing', [own, peer(3, -1)], 'a stage has computed for -1 ms of 3 ms'],
  ['no number', [own, peer(3, Number.NaN)], 'a stage has computed for NaN ms of 3 ms'],
  ['nothing at all', [], 'what this node itself took has been changed on the way'],
  [
    'that the step began late, so that it took less',
    [{ ...own, arrivedAtMs: T + 7, sentAtMs: T + 9 }, peer(0.1, 0.1)],
    'what this node itself took has been changed on the way'
  ],
  [
    'that the source was slow itself',
    [{ ...own, sentAtMs: T + 9, computeMs: 9 }, peer(0.1, 0.1)],
    'what this node itself took has been changed on the way'
  ]
])('of a step of 10 ms: %s', (_, timings, contradiction) => {
  expect(contradictionIn(timings, own, T + 10)).toBe(contradiction)
})
