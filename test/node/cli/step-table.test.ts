import { expect, test } from 'vitest'
import type { GenerateResult, Move } from '../../../node/api.ts'
import { stepTable } from '../../../node/cli/step-table.ts'
import { RESULT } from '../http/fake-node.ts'

const { stages } = RESULT.plan
const MOVE: Move = {
  reason: 'lost',
  from: stages,
  to: stages,
  tokens: 1,
  predicted: { beforeMs: 1, afterMs: 1, savedMs: 0, costMs: 0 },
  spent: { loadMs: 1, catchUpMs: 1, gapMs: 1 }
}

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
