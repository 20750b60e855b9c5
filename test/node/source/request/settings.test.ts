import { describe, expect, test } from 'vitest'
import type { GenerateRequest } from '../../../../node/api.ts'
import { DEFAULT_TEMPERATURE, DEFAULT_TOP_P } from '../../../../node/constants.ts'
import { settingsOf } from '../../../../node/source/request/settings.ts'

const input = { kind: 'raw', text: '' } as const

test('what is not said has the usual value, and a seed of its own', () => {
  const one = settingsOf({ input })
  expect(one).toMatchObject({
    maxTokens: undefined,
    sampling: { temperature: DEFAULT_TEMPERATURE, topP: DEFAULT_TOP_P, topLogprobs: 0 },
    stop: [],
    stopTokenIds: [],
    ignoreEos: false,
    objective: 'latency',
    privacy: 'prompt',
    placement: {},
    scope: '',
    priority: 'normal'
  })
  const seeds = new Set(Array.from({ length: 20 }, () => settingsOf({ input }).sampling.seed))
  expect(seeds.size).toBeGreaterThan(1)
})

test('what is said is taken over', () => {
  const said: Partial<GenerateRequest> = {
    maxTokens: 3,
    temperature: 0,
    topP: 1,
    seed: 5,
    topLogprobs: 2,
    topK: 40,
    minP: 0.05,
    repetitionPenalty: 1.1,
    penaltyWindow: 64,
    logitBias: { 7: -100, 8: 0 },
    minTokens: 2,
    stop: ['x'],
    stopTokenIds: [9],
    ignoreEos: true,
    objective: 'throughput',
    privacy: 'sealed',
    placement: { batch: 4, microBatches: 2 },
    conversation: 'mine',
    exact: true,
    priority: 'low'
  }
  expect(settingsOf({ input, ...said })).toEqual({
    maxTokens: 3,
    sampling: {
      ...{ temperature: 0, topP: 1, seed: 5, topLogprobs: 2, topK: 40, minP: 0.05, minTokens: 2 },
      penalties: { repetition: 1.1, frequency: 0, presence: 0, window: 64 },
      logitBias: [[7, -100]]
    },
    stop: ['x'],
    stopTokenIds: [9],
    ignoreEos: true,
    objective: 'throughput',
    privacy: 'sealed',
    placement: { batch: 4, microBatches: 2 },
    scope: 'mine',
    exact: true,
    priority: 'low'
  })
})

describe('what is out of its range is refused by name', () => {
  test.each<[string, Partial<GenerateRequest>]>([
    ['maxTokens', { maxTokens: 0 }],
    ['maxTokens', { maxTokens: 2 ** 20 + 1 }],
    ['maxTokens', { maxTokens: 1.5 }],
    ['temperature', { temperature: -0.1 }],
    ['temperature', { temperature: Number.NaN }],
    ['temperature', { temperature: 2.1 }],
    ['topP', { topP: -0.1 }],
    ['topP', { topP: 1.1 }],
    ['seed', { seed: -1 }],
    ['seed', { seed: 2 ** 60 }],
    ['topLogprobs', { topLogprobs: 21 }],
    ['topK', { topK: -1 }],
    ['topK', { topK: 1.5 }],
    ['minP', { minP: 1.1 }],
    ['repetitionPenalty', { repetitionPenalty: 0 }],
    ['repetitionPenalty', { repetitionPenalty: Number.NaN }],
    ['frequencyPenalty', { frequencyPenalty: 2.1 }],
    ['presencePenalty', { presencePenalty: -2.1 }],
    ['penaltyWindow', { penaltyWindow: 4097 }],
    ['logitBias', { logitBias: { 7: 100.5 } }],
    ['logitBias', { logitBias: { [-7]: 1 } }],
    ['logitBias', { logitBias: Object.fromEntries(Array.from({ length: 513 }, (_, id) => [id, 1])) }],
    ['minTokens', { minTokens: -1 }],
    ['minTokens', { minTokens: 5, maxTokens: 4 }],
    ['stopTokenIds', { stopTokenIds: [-1] }],
    ['stopTokenIds', { stopTokenIds: Array(65).fill(1) }],
    ['batch', { placement: { batch: 0 } }],
    ['microBatches', { placement: { microBatches: 1e9 } }],
    ['stop', { stop: [''] }],
    ['stop', { stop: ['x'.repeat(1025)] }],
    ['stop', { stop: Array(17).fill('x') }]
  ])('%s of %o', (param, over) => {
    expect(() => settingsOf({ input, ...over })).toThrow(
      expect.objectContaining({ name: 'RequestError', param, message: expect.stringContaining(param) })
    )
  })
})

test('the planner that is asked for by its name is free to choose again, like the one that is not', () => {
  const placed = (placement: GenerateRequest['placement']) =>
    settingsOf({ input, ...(placement && { placement }) }).placement
  expect(placed({ method: 'edgeshard', strategy: 'no-bubble', batch: 4 })).toEqual({ batch: 4 })
  expect(placed({ method: 'edge-solo', strategy: 'bubble' })).toEqual({
    method: 'edge-solo',
    strategy: 'bubble'
  })
})
