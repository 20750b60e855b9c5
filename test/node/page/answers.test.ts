import { expect, test } from 'vitest'
import type { Stretch } from '../../../node/api.ts'
import { comparedOf, headline, partsOf } from '../../../node/page/answers-view.ts'
import { isInForce, needsOf } from '../../../node/page/certificate.ts'
import { afterGenerated } from '../../../node/page/chat-answer.ts'
import type { Message } from '../../../node/page/conversations.ts'
import { devicesOf } from '../../../node/page/devices.ts'
import { devicesOfAnswer, meanPredictedTpotMs } from '../../../node/stretches.ts'
import { fakeNode, RESULT } from '../http/fake-node.ts'

const [here, there] = RESULT.plan.stages as [(typeof RESULT.plan.stages)[0], (typeof RESULT.plan.stages)[0]]
const stretchOf = (
  stages: Stretch['plan']['stages'],
  tokens: number,
  predictedMs: number,
  tpotMs: number
) => ({
  plan: { stages },
  predicted: { ...RESULT.predicted, tpotMs: predictedMs },
  tokens,
  tpotMs
})
/** Its first plan was right, and its last one, which says half as much, was right as well. */
const MOVED = {
  ...RESULT,
  tokens: Array(40).fill(5),
  tpotMs: 8,
  plan: { stages: [here] },
  predicted: { ...RESULT.predicted, tpotMs: 10 },
  stretches: [stretchOf([here, there], 10, 10, 10.1), stretchOf([here], 30, 5, 5.1)]
}
const ended = (result: typeof RESULT | typeof MOVED) => ({
  answer: 1,
  outcome: 'stop',
  tokens: result.tokens.length,
  result
})

test('an answer that moved is held against the plan that was in force, not against its first one', () => {
  const parts = comparedOf(ended(MOVED))
  expect(parts.map(({ predictedMs, stretch }) => [predictedMs, stretch.tpotMs])).toEqual([
    [10, 10.1],
    [5, 5.1]
  ])
  expect(headline(parts)).toBe(
    'The last answer had 2 plans, one after the other. Under the last one it took 5.1 ms a token, as predicted (5.0 ms).'
  )
})

test('an answer of one plan is held against that', () => {
  expect(headline(comparedOf(ended(RESULT)))).toBe(
    'The last answer took 3.3 ms a token, 1.08 times the prediction (3.0 ms).'
  )
})

test('guesses are held against what was predicted with them', () => {
  const guesses = { sent: 4, held: 3, dropped: 1 }
  const predicted = { ...RESULT.predicted, speculatedTpotMs: 2 }
  expect(comparedOf(ended({ ...RESULT, predicted, guesses }))[0]!.predictedMs).toBe(2)
  expect(comparedOf(ended({ ...RESULT, predicted }))[0]!.predictedMs).toBe(3)
})

test('the chat says what the plans in force predicted of all tokens, and every device that had a part', () => {
  const count = MOVED.tokens.length
  expect(meanPredictedTpotMs({ ...MOVED, count })).toBe((10 * 10 + 30 * 5) / 40)
  expect(devicesOfAnswer({ ...MOVED, count })).toEqual([here.name, there.name])
  const asked: Message = { role: 'assistant', text: '', state: 'running' }
  expect(afterGenerated(asked, { type: 'done', result: MOVED }).figures).toMatchObject({
    predictedTpotMs: 6.25,
    devices: [here.name, there.name]
  })
})

test('a plan with the same devices and layers is in force, and any other is what would be planned now', () => {
  const stageOf = ({ peerId, layers }: typeof here) => ({ device: peerId, layers })
  const stages = [here, there].map(stageOf)
  const placed = [{ plan: RESULT.plan }]
  expect(isInForce({ stages }, placed)).toBe(true)
  expect(isInForce({ stages: [stageOf(here)] }, placed)).toBe(false)
  expect(isInForce({ stages: [stageOf(there), stageOf(here)] }, placed)).toBe(false)
  expect(isInForce({ stages }, [])).toBe(false)
})

test('the plan of now is that of the model that is loaded, whichever that is', () => {
  expect(needsOf([])).toEqual({})
  const loaded = [
    { modelId: 'a', objective: 'latency' as const },
    { modelId: 'b', objective: 'throughput' as const }
  ]
  expect(needsOf(loaded)).toEqual({ model: 'b', objective: 'throughput' })
})

test('a stage on another processor of the same device is of another plan', () => {
  const { peerId, layers } = here
  const placed = [{ plan: { stages: [{ ...here, processor: 'gpu' }] } }]
  expect(isInForce({ stages: [{ device: peerId, processor: 'gpu', layers }] }, placed)).toBe(true)
  for (const processor of ['cpu', undefined])
    expect(isInForce({ stages: [{ device: peerId, processor, layers }] }, placed)).toBe(false)
})

test('two stages of one device are told apart by its processors', () => {
  const mesh = fakeNode().mesh()
  const { peerId, name } = mesh.self
  const stages = ['gpu', 'cpu'].map(processor => ({ ...here, peerId, name, processor }))
  const times = {
    stages: [
      { computeMs: 1, waitMs: 0 },
      { computeMs: 2, waitMs: 0 }
    ],
    linksMs: [3, 4]
  }
  const stretch: Stretch = {
    plan: { stages },
    predicted: { ...RESULT.predicted, ...times },
    measured: { ...RESULT.measured, ...times, steps: 5 },
    tokens: 6,
    tpotMs: 10
  }
  expect(partsOf(stretch, devicesOf(mesh)).map(({ what }) => what)).toEqual([
    'desk (gpu) computes',
    'desk (gpu): its thread and turn',
    'desk (gpu) to desk (cpu)',
    'desk (cpu) computes',
    'desk (cpu): its thread and turn',
    'desk (cpu) to desk (gpu)'
  ])
})
