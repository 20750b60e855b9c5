import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { againstReference, type Drawn } from '../fixtures/against-reference.ts'
import { prng } from '../fixtures/prng.ts'
import {
  BIASED,
  CONVOLVED,
  LATENT,
  MIXED,
  PARTED,
  type RandomModelOptions,
  randomModel,
  STATEFUL
} from '../fixtures/random-model.ts'
import { LocalStages } from '../fixtures/shards.ts'

/** A prompt and what is fed behind it, token by token: fixed, so that every processor is asked the same. */
const LONG = { prompt: 7, length: 40 }
const SHORT = { prompt: 2, length: 3 }
/** So many short ones, as a long one soon depends on some near tie. */
const SHORT_COUNT = 40
/** How many drawn tokens of the short ones depend on no near tie, at least: half of them and more do not. */
const CLEAR_COUNT = 20

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
  experts: { shape: MIXED },
  'experts, 4 bits': { shape: MIXED, quantization: { bits: 4, blockSize: 32 } },
  'experts, 8 bits': { shape: MIXED, quantization: { bits: 8, blockSize: 32 } },
  'experts, 4 bits, shifted blocks': {
    shape: MIXED,
    quantization: { bits: 4, blockSize: 32, shifted: true }
  },
  'latent vectors and groups of experts': { shape: LATENT },
  'latent vectors and groups of experts, 4 bits': {
    shape: LATENT,
    quantization: { bits: 4, blockSize: 32 }
  },
  'sinks, biases and limits': { shape: BIASED },
  'sinks, biases and limits, 4 bits': { shape: BIASED, quantization: { bits: 4, blockSize: 32 } },
  'states of two kinds': { shape: STATEFUL },
  'layers of one part': { shape: PARTED },
  'layers of one part, 4 bits': { shape: PARTED, quantization: { bits: 4, blockSize: 32 } },
  'states of two kinds, 4 bits': { shape: STATEFUL, quantization: { bits: 4, blockSize: 32 } },
  'short convolutions, and keys by turns': { shape: CONVOLVED },
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
  '4 bits, blocks of 16': { quantization: { bits: 4, blockSize: 16 } },
  '4 bits, shifted blocks of 16': { quantization: { bits: 4, blockSize: 16, shifted: true } },
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

/** Feeds fixed tokens, the first `prompt` at once; returns what was drawn behind each step. */
async function feed(stages: LocalStages, tokens: number[], prompt: number): Promise<Drawn[]> {
  const drawn = [{ tokens, position: prompt, token: await stages.feed(tokens.slice(0, prompt)) }]
  for (let position = prompt + 1; position <= tokens.length; position++) {
    drawn.push({ tokens, position, token: await stages.feed([tokens[position - 1]!]) })
  }
  return drawn
}

describe.each(Object.entries(CASES))('%s', (_, options) => {
  it('agrees with the float64 forward pass on prompts and on every decoded token', async () => {
    await using model = await randomModel(options)
    await using stages = await LocalStages.open(runtime, model)
    const random = prng(7)
    const sequence = (length: number) =>
      Array.from({ length }, () => Math.floor(random() * model.manifest.shape.vocabSize))
    const drawn = await feed(stages, sequence(LONG.length), LONG.prompt)
    for (let i = 0; i < SHORT_COUNT; i++) {
      await stages.restart()
      drawn.push(...(await feed(stages, sequence(SHORT.length), SHORT.prompt)))
    }
    const { clear, nearTie, tolerance, formatError, rounding } = await againstReference(model, options, drawn)
    if (rounding !== 'rows') expect(clear.count).toBeGreaterThan(CLEAR_COUNT)
    expect(clear.error).toBeLessThan(tolerance)
    expect(nearTie.error).toBeLessThan(formatError)
  })
})
