import { expect, test } from 'vitest'
import type { GenerateResult } from '../../../node/api.ts'
import { stepTable } from '../../../node/cli/step-table.ts'
import { MOVE, RESULT } from '../http/fake-node.ts'

test.each<[string, Partial<GenerateResult>, boolean]>([
  ['undisturbed', {}, true],
  ['that lost a device', { recoveries: 1 }, false],
  ['that went over to others', { moves: [MOVE] }, false]
])(
  'the prediction of the first plan stands beside the steps of an answer %s, or does not',
  (_, over, isThere) => {
    const table = stepTable({ ...RESULT, ...over }, 80)
    expect(table).toContain('1.00 ms')
    expect(table.includes('1.25 ms')).toBe(isThere)
  }
)

test('stages of two processors of a device are told apart, and so is the way between them', () => {
  const [first] = RESULT.plan.stages
  const stages = ['gpu', 'cpu'].map(processor => ({ ...first!, processor }))
  const step = { computeMs: 1, waitMs: 0 }
  const measured = { ...RESULT.measured, stages: [step, step], linksMs: [0.1, 0.1] }
  const table = stepTable({ ...RESULT, plan: { stages }, measured }, 80)
  expect(table).toContain(`compute ${first!.name} (gpu)`)
  expect(table).toContain(`link to ${first!.name} (cpu)`)
  expect(table).toContain(`link to ${first!.name} (gpu)`)
})

test('behind a move the prediction of the last plan stands beside them', () => {
  const { plan, predicted } = RESULT
  const last = { ...predicted, stages: predicted.stages.map(() => ({ computeMs: 7.75 })) }
  const stretch = { plan, tokens: 2, tpotMs: 3 }
  const stretches = [
    { ...stretch, predicted },
    { ...stretch, predicted: last }
  ]
  const table = stepTable({ ...RESULT, moves: [MOVE], stretches }, 80)
  expect([table.includes('1.25 ms'), table.includes('7.75 ms')]).toEqual([false, true])
})
