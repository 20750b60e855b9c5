import { expect, test } from 'vitest'
import type { GenerateResult, MeshState } from '../../../node/api.ts'
import { bench } from '../../../node/bench/bench.ts'
import type { BenchApi, BenchOptions } from '../../../node/bench/types.ts'
import { PlanRefusedError } from '../../../node/errors.ts'
import type { ScenarioInput } from '../../../node/plan/index.ts'

/** Layers for which there is room with up to three sequences. */
const SCENARIO: ScenarioInput = {
  devices: [{ id: 'here', memoryBytes: 800, profile: 'here' }],
  source: 'here',
  links: { default: { mbps: 1000, latencyMs: 1 } },
  model: {
    name: 'tiny',
    layers: [{ kind: 'decoder', count: 6, weightBytes: 100, activationBytes: 0, kvBytesPerToken: 1 }]
  },
  profiles: { here: { decoder: { decodeMs: 1 } } },
  workload: { promptTokens: 4, newTokens: 6, batch: { max: 32 }, contextTokens: 10 }
}
const OPTIONS: BenchOptions = {
  ...{ model: undefined, cloud: undefined, privacy: 'prompt', seed: 0 },
  ...{
    text: Array.from({ length: 64 }, (_, i) => `word${i}`).join(' '),
    promptTokens: 4,
    newTokens: 2,
    repeats: 1
  },
  ...{ objectives: ['throughput'], methods: ['edge-solo'], batches: ['max'], strategies: ['no-bubble'] }
}

/** A node that has room for so many sequences at once, whatever its memory says, and the batches that were asked of it. */
function nodeWith(room: number, { tellsTimes = true, tokens = 2 } = {}) {
  const asked: number[] = []
  const plan = { stages: [{ peerId: 'here', name: 'here', layers: [0, 6], weightBytes: 600 }] }
  const result = {
    ...{ text: '', tokens: [1, 2].slice(0, tokens), ttftMs: 1, tpotMs: 1, plan, recoveries: 0 },
    predicted: { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [] },
    measured: { stages: [], linksMs: [] }
  } as unknown as GenerateResult
  const api: BenchApi = {
    async *generate({ placement }) {
      const { batch = 1 } = placement ?? {}
      asked.push(batch)
      if (batch > room) throw new PlanRefusedError(`there is room for ${room}`)
      // All at once, as a reader that is kept busy gets them.
      for (let id = 1; id <= tokens; id++)
        yield {
          ...{ type: 'text', text: '', tokens: [id], logprobs: [] },
          ...(tellsTimes && { drawnAtMs: [1000 + 10 * id] })
        }
      yield { type: 'done', result }
    },
    mesh: async () => {
      const self = {
        peerId: 'here',
        name: 'here',
        hardware: { cpu: '' },
        memory: { budgetBytes: 800, freeBytes: 0 }
      }
      return { self, peers: [], links: [], deployments: [] } as unknown as MeshState
    },
    scenario: async () => SCENARIO,
    countTokens: async text => text.split(' ').filter(Boolean).length
  }
  return { api, asked }
}
const run = { signal: new AbortController().signal }

test('the most sequences are those that the node has room for, where memory seemed to be there for more', async () => {
  const { api, asked } = nodeWith(2)
  const { rows } = await bench(api, OPTIONS, run)
  expect(rows).toMatchObject([{ outcome: 'measured', batch: 2, largest: true }])
  expect([...new Set(asked)]).toEqual([3, 2])
})

test('a rate is made of when the node drew the tokens, not of when they were read', async () => {
  const options = { ...OPTIONS, batches: [1] }
  const { rows } = await bench(nodeWith(2).api, options, run)
  // The node had the request 1 ms before the first token, and the second one 10 ms behind that.
  expect(rows).toMatchObject([
    {
      tokensPerSecond: { median: 100 },
      overallTokensPerSecond: { median: 2000 / 11 },
      counted: { tokens: 1, ms: 10 }
    }
  ])
})

test.each([
  ['tells no times', { tellsTimes: false }, 'says of 0 of 2 tokens when it drew them'],
  ['ends an answer early', { tokens: 1 }, 'ended after 1 of 2 tokens']
])('a node that %s gets no figures', async (_, node, reason) => {
  const { rows } = await bench(nodeWith(2, node).api, { ...OPTIONS, batches: [1] }, run)
  expect(rows).toMatchObject([{ outcome: 'failed', reason: expect.stringContaining(reason) }])
})

test('a batch that was asked for is not made smaller', async () => {
  const { rows } = await bench(nodeWith(2).api, { ...OPTIONS, batches: [3] }, run)
  expect(rows).toMatchObject([{ outcome: 'infeasible', reason: 'there is room for 2' }])
})
