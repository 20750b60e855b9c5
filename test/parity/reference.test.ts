import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { type RandomModelOptions, randomModel } from '../fixtures/random-model.ts'
import { LocalStages } from '../fixtures/shards.ts'
import { referenceLogits } from '../reference/llama.ts'
import { ReferenceWeights } from '../reference/weights.ts'

/** Float32 against float64: a few dozen units in the last place of values around 10. */
const TOLERANCE = 5e-5
/** Where an input in blocks lies between two steps of its 8 bits, float32 and float64 may round it to different ones. */
const FLIPPED_TOLERANCE = 0.1
const PROMPT = [1, 5, 9, 33, 77, 100, 12]

const llama3 = {
  theta: 500000,
  scaling: {
    type: 'llama3',
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalContextLength: 32
  }
} as const

const CASES: Record<string, RandomModelOptions> = {
  'grouped queries, float32': {},
  'one query per key head': { shape: { kvHeads: 4 } },
  'heads of 8, which GroupQueryAttention cannot turn': { shape: { headSize: 8 } },
  'heads wider than hidden / heads': { shape: { headSize: 32 } },
  'a context stretched as Llama 3.1 does': { shape: { rope: llama3 } },
  'a context stretched linearly': {
    shape: { rope: { theta: 10000, scaling: { type: 'linear', factor: 4 } } }
  },
  'biases on q, k and v': { optional: ['qkv_bias'] },
  'norms on q and k': { optional: ['q_norm', 'k_norm'] },
  'norms on q and k, heads of 8': { optional: ['q_norm', 'k_norm'], shape: { headSize: 8 } },
  '8 bits, blocks of 32': { quantization: { bits: 8, blockSize: 32 } },
  '8 bits, blocks of 16': { quantization: { bits: 8, blockSize: 16 } },
  '4 bits, blocks of 32': { quantization: { bits: 4, blockSize: 32 } },
  '4 bits, blocks of 64': { quantization: { bits: 4, blockSize: 64 }, shape: { ffnSize: 128 } },
  '4 bits, blocks of 128': {
    quantization: { bits: 4, blockSize: 128 },
    shape: { hiddenSize: 128, ffnSize: 256, heads: 8 }
  },
  '4 bits, blocks that do not divide the rows': {
    quantization: { bits: 4, blockSize: 32 },
    shape: { ffnSize: 72, headSize: 8, heads: 6, kvHeads: 3 }
  },
  '4 bits, shifted blocks': { quantization: { bits: 4, blockSize: 32, shifted: true } },
  '8 bits, shifted blocks': {
    quantization: { bits: 8, blockSize: 16, shifted: true },
    optional: ['qkv_bias']
  },
  '8 bits with biases': { quantization: { bits: 8, blockSize: 32 }, optional: ['qkv_bias'] },
  '4 bits with norms on q and k': { quantization: { bits: 4, blockSize: 32 }, optional: ['q_norm', 'k_norm'] }
}

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

describe.each(Object.entries(CASES))('%s', (_, options) => {
  it('agrees with the float64 forward pass on the prompt and on every decoded token', async () => {
    await using model = await randomModel(options)
    await using stages = await LocalStages.open(runtime, model)
    const drawn = await stages.generate(PROMPT, 40)
    const ids = drawn.map(token => token.id)
    const logits = referenceLogits(new ReferenceWeights(model.manifest, model.files), [...PROMPT, ...ids])
    const errors = drawn.map((token, i) => {
      const expected = logits[PROMPT.length - 1 + i]!
      const best = Math.max(...expected)
      const logSum = best + Math.log(expected.reduce((sum, x) => sum + Math.exp(x - best), 0))
      const differences = token.top.map(({ id, logprob }) => Math.abs(logprob - (expected[id]! - logSum)))
      return Math.max(best - expected[token.id]!, ...differences)
    })
    const close = errors.filter(error => error < TOLERANCE).length
    if (options.quantization === undefined) expect(Math.max(...errors)).toBeLessThan(TOLERANCE)
    else {
      expect(Math.max(...errors)).toBeLessThan(FLIPPED_TOLERANCE)
      expect(close).toBeGreaterThanOrEqual(0.8 * errors.length)
    }
  })
})
