import { expect, test } from 'vitest'
import type { GenerateEvent, GenerateResult, MeshState } from '../../../node/api.ts'
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
function nodeWith(room: number) {
  const asked: number[] = []
  const plan = { stages: [{ peerId: 'here', name: 'here', layers: [0, 6], weightBytes: 600 }] }
  const result = {
    ...{ text: '', tokens: [1, 2], ttftMs: 1, tpotMs: 1, plan, recoveries: 0 },
    predicted: { ttftMs: 1, tpotMs: 1, stages: [], linksMs: [] },
    measured: { stages: [], linksMs: [] }
  } as unknown as GenerateResult
  const api: BenchApi = {
    async *generate({ placement }) {
      const { batch = 1 } = placement ?? {}
      asked.push(batch)
      if (batch > room) throw new PlanRefusedError(`there is room for ${room}`)
      for (const id of [1, 2])
        yield { type: 'text', text: '', tokens: [{ id, logprob: 0, top: [] }] } as unknown as GenerateEvent
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

test('a batch that was asked for is not made smaller', async () => {
  const { rows } = await bench(nodeWith(2).api, { ...OPTIONS, batches: [3] }, run)
  expect(rows).toMatchObject([{ outcome: 'infeasible', reason: 'there is room for 2' }])
})
