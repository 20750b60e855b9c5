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
