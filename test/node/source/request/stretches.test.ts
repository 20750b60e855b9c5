import { expect, test } from 'vitest'
import { Stretches } from '../../../../node/source/request/stretches.ts'
import { RESULT } from '../../http/fake-node.ts'

const placedWith = (tpotMs: number) => ({ plan: RESULT.plan, predicted: { ...RESULT.predicted, tpotMs } })
const { measured } = RESULT

test('an answer that one plan had has no stretches', () => {
  const stretches = new Stretches()
  stretches.begin(placedWith(3))
  for (const ms of [10, 13, 16]) stretches.drawn(ms)
  expect(stretches.list).toBeUndefined()
})

test('each part has the plan that was in force, its own tokens and times, and nothing of the pause between', () => {
  const stretches = new Stretches()
  const [first, second, third] = [placedWith(3), placedWith(2), placedWith(1)]
  stretches.begin(first)
  for (const ms of [10, 14, 18]) stretches.drawn(ms)
  stretches.measured(first, measured)
  stretches.begin(second)
  // What was left before a token came from it is no part of the answer.
  stretches.measured(second, { ...measured, steps: 0 })
  stretches.begin(third)
  for (const ms of [1000, 1002]) stretches.drawn(ms)
  expect(stretches.list).toEqual([
    { ...first, tokens: 3, tpotMs: 4, measured },
    { ...third, tokens: 2, tpotMs: 2 }
  ])
})

test('a plan that was replaced before its first token is not held against the answer', () => {
  const stretches = new Stretches()
  const second = placedWith(2)
  stretches.begin(placedWith(3))
  stretches.begin(second)
  for (const ms of [10, 12]) stretches.drawn(ms)
  expect(stretches.list).toEqual([{ ...second, tokens: 2, tpotMs: 2 }])
})
