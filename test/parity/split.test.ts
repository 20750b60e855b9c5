import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import type { HiddenStates, Runtime } from '../../models/runtime/runtime.ts'
import { againstReference, type Drawn } from '../fixtures/against-reference.ts'
import {
  LATENT,
  LAYERED,
  MIXED,
  PARTED,
  type RandomModelOptions,
  randomModel,
  STATEFUL
} from '../fixtures/random-model.ts'
import { LocalStages } from '../fixtures/shards.ts'

const PROMPT = Array.from({ length: 23 }, (_, i) => (i * 37 + 5) % 160)
const COUNT = 24
/** How many tokens a step has decides in which order a product adds. */
const TOLERANCE = 1e-5

const CASES: Record<string, RandomModelOptions> = {
  float32: {},
  'float32, layers of several kinds': { shape: LAYERED },
  'q4, latent vectors': { shape: LATENT, quantization: { bits: 4, blockSize: 32 } },
  'q4, experts': { shape: MIXED, quantization: { bits: 4, blockSize: 32 } },
  'float32, states': { shape: STATEFUL },
  'q4, layers of one part': { shape: PARTED, quantization: { bits: 4, blockSize: 32 } },
  'float32, heads of 8': { shape: { headSize: 8 } },
  'float32 with biases and norms': { optional: ['qkv_bias', 'q_norm', 'k_norm'] },
  q8: { quantization: { bits: 8, blockSize: 32 } },
  q4: { quantization: { bits: 4, blockSize: 32 } },
  'q4, shifted': { quantization: { bits: 4, blockSize: 32, shifted: true } }
}

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 2 })
})
afterAll(() => runtime.stop())

describe.each(Object.entries(CASES))('%s', (_, options) => {
  it('gives the same tokens and log-probabilities, to the bit, wherever it is cut', async () => {
    await using model = await randomModel(options)
    await using whole = await LocalStages.open(runtime, model)
    const expected = await whole.generate(PROMPT, COUNT)
    const every = Array.from({ length: model.manifest.layers.length - 1 }, (_, i) => i + 1)
    for (const cuts of [...every.map(cut => [cut]), every]) {
      await using stages = await LocalStages.open(runtime, model, cuts)
      expect(await stages.generate(PROMPT, COUNT), `cut at ${cuts}`).toEqual(expected)
    }
  })

  it('computes a prompt that comes whole, in chunks or token by token', async () => {
    await using model = await randomModel(options)
    await using stages = await LocalStages.open(runtime, model)
    const drawn: Drawn[] = []
    for (const chunk of [PROMPT.length, 1, 5, 16, 22]) {
      await stages.restart()
      drawn.push({ tokens: PROMPT, position: PROMPT.length, token: await stages.feed(PROMPT, chunk) })
    }
    const { clear, nearTie, tolerance, formatError } = await againstReference(model, options, drawn)
    expect(clear.error).toBeLessThan(tolerance)
    expect(nearTie.error).toBeLessThan(formatError)
  })
})

// With blocks, an input near a tie may be rounded to another step in chunks than at once, so only floats are alike.
describe.each(Object.entries(CASES).filter(([, options]) => options.quantization === undefined))(
  '%s',
  (_, options) => {
    it('computes the same hidden states in chunks as at once', async () => {
      await using model = await randomModel(options)
      const { manifest, blobsDir } = model
      const shard = await runtime.load({ manifest, range: [0, manifest.layers.length - 1], blobsDir })
      const input = Int32Array.from(PROMPT)
      const whole = await shard.open({ maxTokens: 32 })
      const chunked = await shard.open({ maxTokens: 64 })
      const expected = hiddenOf(await whole.forward({ position: 0, input, sample: false }))
      const first = hiddenOf(await chunked.forward({ position: 0, input: input.slice(0, 9), sample: false }))
      const second = hiddenOf(await chunked.forward({ position: 9, input: input.slice(9), sample: false }))
      const joined = [...first.data, ...second.data]
      const error = expected.data.reduce((max, x, i) => Math.max(max, Math.abs(x - joined[i]!)), 0)
      expect(joined.length).toBe(expected.data.length)
      expect(error).toBeLessThan(TOLERANCE)
      await shard.release()
    })
  }
)

function hiddenOf(output: { kind: string; hidden?: HiddenStates }): HiddenStates {
  if (output.hidden === undefined) throw new Error(`got ${output.kind} instead of hidden states`)
  return output.hidden
}
