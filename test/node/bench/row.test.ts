import { expect, test } from 'vitest'
import type { GenerateResult, MeshState } from '../../../node/api.ts'
import { fastestPeer, largestBatch, problemOf, refusalOf } from '../../../node/bench/prediction.ts'
import { rowOf } from '../../../node/bench/row.ts'
import type { ScenarioInput } from '../../../node/plan/index.ts'

/** Two devices: 1 ms a layer here, 2 ms there; a layer of 100 bytes and 10 of KV cache a sequence. */
const SCENARIO: ScenarioInput = {
  devices: [
    { id: 'here', memoryBytes: 1, profile: 'here' },
    { id: 'there', memoryBytes: 1, profile: 'there' }
  ],
  source: 'here',
  links: { default: { mbps: 1000, latencyMs: 1 } },
  model: {
    name: 'tiny',
    layers: [{ kind: 'decoder', count: 6, weightBytes: 100, activationBytes: 0, kvBytesPerToken: 1 }]
  },
  profiles: { here: { decoder: { decodeMs: 1 } }, there: { decoder: { decodeMs: 2 } } },
  workload: { promptTokens: 4, newTokens: 6, batch: { max: 32 }, contextTokens: 10 }
}
const device = (peerId: string, budgetBytes: number) => ({ peerId, memory: { budgetBytes, freeBytes: 0 } })
const mesh = { self: device('here', 500), peers: [device('there', 400)] } as unknown as MeshState
const problem = problemOf(SCENARIO, mesh, null)

test('what devices offer counts, not what is free of it now', () => {
  // A layer with three sequences is 130 bytes, and three fit on either device; with four it is 140: three and two.
  expect(refusalOf(problem, 'edgeshard', 1)).toBeUndefined()
  expect(refusalOf(problem, 'edge-solo', 1)).toContain('here needs')
  expect(largestBatch(problem, 'edgeshard')).toBe(3)
  expect(fastestPeer(SCENARIO)).toBe('there')
})

const result = (tpotMs: number): GenerateResult => ({
  text: '',
  tokens: [],
  promptTokens: 4,
  cachedTokens: 0,
  finishReason: 'length',
  ttftMs: 30,
  tpotMs,
  plan: {
    stages: [
      { peerId: 'here', name: 'desk', layers: [0, 4], weightBytes: 400 },
      { peerId: 'there', name: 'lap', layers: [4, 6], weightBytes: 200 }
    ]
  },
  predicted: { ttftMs: 20, tpotMs: 10, stages: [], linksMs: [] },
  measured: {
    steps: 5,
    sequences: 1,
    contextTokens: 40,
    stages: [
      { computeMs: 4, waitMs: 0 },
      { computeMs: 5, waitMs: 1 }
    ],
    linksMs: [1, 1]
  },
  recoveries: 0
})

test('of micro-batches that are not equal each sequence has its share of a step', () => {
  const asked = { objective: 'throughput', method: 'edgeshard', strategy: 'no-bubble', batch: 3 } as const
  const inStep = (sequences: number, computeMs: number) => {
    const { measured, ...all } = result(20)
    const stages = measured.stages.map(stage => ({ ...stage, computeMs }))
    return { ...all, measured: { ...measured, sequences, stages } }
  }
  const results = [inStep(2, 6), inStep(2, 6), inStep(1, 4)]
  const round = { results, startMs: 0, tokenTimesMs: results.map(() => [100, 200, 300]) }
  const row = rowOf({ asked, batch: 3, rounds: [round], microBatches: 2, problem })
  // 6 ms of the step of two and 4 of the step of one.
  expect(row.stages.map(({ busy }) => busy)).toEqual([0.5, 0.5])
})

test('busy shares, rates and ratios come from the rounds', () => {
  const asked = { objective: 'throughput', method: 'edgeshard', strategy: 'no-bubble', batch: 'max' } as const
  const round = {
    results: [result(20), result(20)],
    startMs: 0,
    tokenTimesMs: [
      [100, 200, 300],
      [100, 200, 300]
    ]
  }
  const row = rowOf({ asked, batch: 2, rounds: [round], microBatches: 4, problem })
  // Two sequences fill two of four micro-batches: each stage computes twice in the 20 ms of a token.
  expect(row).toMatchObject({ batch: 2, microBatches: 2, largest: true })
  expect(row.stages.map(({ busy }) => busy)).toEqual([0.4, 0.5])
  expect(row.tokensPerSecond.median).toBe(20)
  expect(row.overallTokensPerSecond.median).toBe(20)
  // 4 + 4 ms of compute and two hops of 1 ms, longer than both micro-batches on either device.
  expect(row.predicted).toEqual({ ttftMs: null, tpotMs: 10, tokensPerSecond: 200 })
  expect(row.ratio).toEqual({ tpot: 0.5, tokensPerSecond: 10 })
})

test('one sequence is judged by what the node itself foretold', () => {
  const asked = { objective: 'latency', method: 'edgeshard', strategy: null, batch: 1 } as const
  const round = { results: [result(12.5)], startMs: 0, tokenTimesMs: [[100, 150, 200]] }
  const row = rowOf({ asked, batch: 1, rounds: [round], microBatches: 1, problem })
  expect(row.predicted).toEqual({ ttftMs: 20, tpotMs: 10, tokensPerSecond: 100 })
  expect(row.ratio.tpot).toBeCloseTo(0.8)
})
