import { describe, expect, test } from 'vitest'
import { parseScenario, plan, predict, type ScenarioInput } from '../../../node/plan/index.ts'

/** A step takes 2 ms and a microsecond for each token before it, a token of a prompt 1 ms and 4 microseconds for each. */
const ATTENDS = {
  decodeMs: 2.032,
  decodeMsPerExtraSequence: 0.5,
  prefillMsPerToken: 1.064,
  decodeMsByContext: { 32: 2.032, 1024: 3.024 },
  prefillMsPerTokenByContext: { 16: 1.064, 1040: 5.16 }
}
const stepMs = (before: number) => 2 + before / 1000
const promptMs = (start: number, end: number) =>
  Array.from({ length: end - start }, (_, i) => 1 + (4 * (start + i)) / 1000).reduce((a, b) => a + b, 0)

function scenarioOf(
  workload: Partial<ScenarioInput['workload']> = {},
  decoder: NonNullable<ScenarioInput['profiles'][string]>[string] = ATTENDS
): ScenarioInput {
  return {
    devices: [
      { id: 'a', memoryBytes: 1e9, profile: 'attends' },
      { id: 'b', memoryBytes: 1e9, profile: 'flat' }
    ],
    source: 'a',
    links: { default: { mbps: 1e6 }, hopOverheadMs: 1 },
    model: {
      name: 'm',
      layers: [
        { kind: 'embedding', weightBytes: 1, activationBytes: 4 },
        { kind: 'decoder', count: 4, weightBytes: 1, activationBytes: 4 },
        { kind: 'head', weightBytes: 1, activationBytes: 4 }
      ]
    },
    profiles: { attends: { decoder }, flat: { decoder: { decodeMs: 3, prefillMsPerToken: 3 } } },
    workload: { promptTokens: 32, newTokens: 8, batch: 1, contextTokens: 0, ...workload }
  }
}

const ALONE = [{ device: 'a', layers: [0, 6] as const }]
const priced = (scenario: ScenarioInput, batch = 1) => predict(parseScenario(scenario), ALONE, batch)!
/** Half a token of context more or less. */
const HALF = { ttft: (tokens: number) => 4 * tokens * 0.002, tpot: 4 * 0.0015 }

describe('with attention', () => {
  test.each([[32], [256], [2048], [8192]])('a prompt of %i tokens takes what all its tokens take', tokens => {
    const { ttftMs, tpotMs } = priced(scenarioOf({ promptTokens: tokens, newTokens: 100 }))
    expect(ttftMs / (4 * promptMs(0, tokens))).toBeCloseTo(1, 2)
    expect(Math.abs(tpotMs - 4 * stepMs(tokens + 49))).toBeLessThanOrEqual(HALF.tpot)
  })

  test('a request is its prompt and each of its steps', () => {
    const { ttftMs, tpotMs } = priced(scenarioOf({ promptTokens: 4000, newTokens: 2000 }))
    const steps = Array.from({ length: 1999 }, (_, i) => 4 * stepMs(4000 + i)).reduce((a, b) => a + b, 0)
    expect((ttftMs + 1999 * tpotMs) / (4 * promptMs(0, 4000) + steps)).toBeCloseTo(1, 3)
  })

  test('what the cache holds already is attended to, and not computed again', () => {
    const { ttftMs, tpotMs } = priced(scenarioOf({ cachedTokens: 6000, promptTokens: 100, newTokens: 2 }))
    expect(Math.abs(ttftMs - 4 * promptMs(6000, 6100))).toBeLessThanOrEqual(HALF.ttft(100) + 1e-9)
    expect(tpotMs).toBeCloseTo(4 * stepMs(6101))
  })

  test('each of several sequences attends to its own context', () => {
    const problem = parseScenario(scenarioOf({ promptTokens: 1000, newTokens: 2, batch: 8 }))
    const [step] = predict(problem, ALONE, 8)!.stages
    expect(step!.computeMs).toBeCloseTo(4 * (2.032 + 7 * 0.5 + 8 * (1001 - 32) * 0.001))
    const byBatch = { ...ATTENDS, decodeMsByBatch: { 1: 2.032, 8: 5 } }
    const measured = parseScenario(scenarioOf({ promptTokens: 1000, newTokens: 2, batch: 8 }, byBatch))
    expect(predict(measured, ALONE, 8)!.stages[0]!.computeMs).toBeCloseTo(4 * (5 + 8 * (1001 - 32) * 0.001))
  })

  test('whole prompts that were timed had their attention in it; longer ones have more', () => {
    const timed = { ...ATTENDS, prefillMsByTokens: { 32: 34.048, 128: 160.768 } }
    expect(priced(scenarioOf({ promptTokens: 128 }, timed)).ttftMs).toBeCloseTo(4 * 160.768)
    expect(priced(scenarioOf({ promptTokens: 80 }, timed)).ttftMs).toBeCloseTo(4 * (34.048 + 160.768) * 0.5)
    const { ttftMs } = priced(scenarioOf({ promptTokens: 4096 }, timed))
    expect(ttftMs / (4 * promptMs(0, 4096))).toBeCloseTo(1, 2)
  })

  test('the best placement is another one when the context is long', () => {
    const best = (promptTokens: number) => {
      const answer = plan(parseScenario({ ...scenarioOf({ promptTokens }), metric: 'tpot' }))
      return answer.feasible && answer.stages.map(({ device, layers }) => [device, ...layers])
    }
    expect(best(32)).toEqual([['a', 0, 6]])
    // With 2,000 tokens before it a layer takes 4 ms on a, and two hops cost 2.
    expect(best(4000)).toEqual([
      ['a', 0, 2],
      ['b', 2, 6]
    ])
  })
})

describe('without it', () => {
  test.each([
    ['absent', {}],
    ['one point', { decodeMsByContext: { 32: 9 }, prefillMsPerTokenByContext: { 16: 9 } }],
    // Noise of the timing: more tokens take no less.
    ['falling', { decodeMsByContext: { 32: 9, 1024: 2 }, prefillMsPerTokenByContext: { 16: 9, 1040: 2 } }]
  ])('(%s) times are what they were', (_, points) => {
    const { decodeMs, prefillMsPerToken } = ATTENDS
    const { ttftMs, tpotMs } = priced(
      scenarioOf({ promptTokens: 5000 }, { decodeMs, prefillMsPerToken, ...points })
    )
    expect(ttftMs).toBeCloseTo(4 * 5000 * prefillMsPerToken)
    expect(tpotMs).toBeCloseTo(4 * decodeMs)
  })
})
