import { expect, test } from 'vitest'
import {
  MAX_ENDS,
  MAX_LOGIT_BIASES,
  MAX_PENALTY_WINDOW,
  MAX_TOP_K
} from '../../../models/runtime/sampling-limits.ts'
import { MAX_MESSAGE_BYTES } from '../../../protocols/constants.ts'
import { parseRequest } from '../../../protocols/lease/messages.ts'

/** No model has more tokens than that. */
const LAST_TOKEN = 2 ** 21 - 1
const tokens = (count: number) => Array.from({ length: count }, (_, i) => LAST_TOKEN - i)

const sampling = {
  ...{
    temperature: 0.7,
    topP: 0.95,
    seed: Number.MAX_SAFE_INTEGER,
    topLogprobs: 20,
    topK: MAX_TOP_K,
    minP: 0.05
  },
  penalties: { repetition: 1.1, frequency: -100, presence: 100, window: MAX_PENALTY_WINDOW },
  logitBias: tokens(MAX_LOGIT_BIASES).map(id => [id, -1.2345678901234567e-17]),
  minTokens: 2 ** 24,
  ends: tokens(MAX_ENDS),
  reply: { promptTokens: 2 ** 24, knownTokens: 2 ** 24, lastIds: tokens(MAX_PENALTY_WINDOW) }
}
const slot = { sessionId: 'f'.repeat(32), leaseId: 'a', slot: 0, keepTokens: 0, withholdTokens: 0 }
const open = (over: object) => ({
  type: 'open' as const,
  id: 1,
  body: { ...slot, sampling: { ...sampling, ...over } }
})

test('all that may be said about drawing fits a message', () => {
  expect(JSON.stringify(open({})).length).toBeLessThan(MAX_MESSAGE_BYTES)
  expect(parseRequest(open({})).body).toEqual({ ...slot, sampling })
})

test.each([
  { topK: 0 },
  { topK: MAX_TOP_K + 1 },
  { minP: -0.1 },
  { minP: 1.1 },
  { penalties: { ...sampling.penalties, repetition: 0 } },
  { penalties: { ...sampling.penalties, repetition: 1e-300 } },
  { penalties: { ...sampling.penalties, frequency: 101 } },
  { penalties: { ...sampling.penalties, presence: '1' } },
  { penalties: { ...sampling.penalties, window: MAX_PENALTY_WINDOW + 1 } },
  { penalties: { repetition: 1 } },
  { logitBias: [[1]] },
  { logitBias: [[-1, 0]] },
  { logitBias: [[1, 100.5]] },
  { logitBias: [...sampling.logitBias, [0, 1]] },
  { minTokens: 0.5 },
  { ends: [2 ** 31] },
  { ends: tokens(MAX_ENDS + 1) },
  { reply: { ...sampling.reply, lastIds: tokens(MAX_PENALTY_WINDOW + 1) } },
  { reply: { ...sampling.reply, knownTokens: 3 } },
  { reply: { promptTokens: -1, knownTokens: 0, lastIds: [] } }
])('what is beyond its limits is refused: case %#', over => {
  expect(() => parseRequest(open(over))).toThrow(expect.objectContaining({ name: 'InvalidMessageError' }))
})
