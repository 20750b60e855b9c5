import { describe, expect, it } from 'vitest'
import { Batch } from '../../../models/runtime/batch.ts'
import { CpuProcessor } from '../../../models/runtime/cpu-processor.ts'
import { allocateHidden } from '../../../models/runtime/hidden.ts'
import type { StepPart } from '../../../models/runtime/runtime.ts'
import { Sequence, type StepOutput } from '../../../models/runtime/sequence.ts'
import { ShardExecutor } from '../../../models/runtime/shard-executor.ts'
import { BESIDE, LATENT, randomModel, STATEFUL } from '../../fixtures/random-model.ts'
import { GREEDY } from '../../fixtures/shards.ts'

const CPU = new CpuProcessor({ threads: 1, spinUs: 0 })
/** As many tokens as a step is cut into three for. */
const TOKENS = 17
const IDS = Int32Array.from({ length: 2 * TOKENS }, (_, i) => (i * 37 + 5) % 160)

class ShortRuns extends CpuProcessor {
  override readonly mostTokens = 7
  override readonly joinsSlots: boolean

  constructor(joinsSlots: boolean) {
    super({ threads: 1, spinUs: 0 })
    this.joinsSlots = joinsSlots
  }
}

describe.each([
  ['attention over all tokens', {}],
  ['states', STATEFUL],
  ['a window and experts', BESIDE],
  ['latent vectors', LATENT]
])('a processor with short runs computes, with %s,', (_, shape) => {
  it('a step of many tokens as one run would', async () => {
    await using model = await randomModel({ shape })
    const { manifest, blobsDir } = model
    const { hiddenSize, decoderLayers } = manifest.shape
    const input = allocateHidden(TOKENS, hiddenSize)
    input.data.forEach((_, i) => void (input.data[i] = Math.sin(i)))
    const results = async (processor: CpuProcessor) => {
      const inner = await ShardExecutor.load({ manifest, range: [1, 1 + decoderLayers], blobsDir }, processor)
      const whole = await ShardExecutor.load(
        { manifest, range: [0, 2 + decoderLayers], blobsDir, lanes: 2 },
        processor
      )
      const runs = countedRuns(whole)
      const numbers: number[] = []
      for (const exact of [false, true]) {
        const sequence = await Sequence.open(inner, { maxTokens: 2 * TOKENS, exact })
        for (const position of [0, TOKENS]) {
          const output = await sequence.forward({ position, input, sample: false })
          if (output.kind !== 'hidden' || typeof output.hidden === 'number') throw new Error(output.kind)
          expect(output.hidden.data).toHaveLength(TOKENS * hiddenSize)
          numbers.push(...output.hidden.data)
        }
      }
      for (const pooling of ['mean', 'last'] as const) {
        const sequence = await Sequence.open(whole, { maxTokens: 2 * TOKENS, pooling })
        numbers.push(...pooledOf(await sequence.forward({ position: 0, input: IDS, sample: true })))
      }
      const drawing = await Sequence.open(whole, { maxTokens: 2 * TOKENS, sampling: GREEDY })
      const token = await drawing.forward({ position: 0, input: IDS, sample: true })
      if (token.kind !== 'token') throw new Error(token.kind)
      const batch = await Batch.allocate(whole, { slots: 3, maxTokens: 2 * TOKENS })
      const sequences = []
      for (let slot = 0; slot < 3; slot++) sequences.push(await batch.open({ sampling: GREEDY }))
      const steps: StepPart[][] = [
        [
          { position: 0, tokens: 1, draws: 1 },
          { position: 0, tokens: 8, draws: 0 },
          { position: 0, tokens: TOKENS, draws: 4 }
        ],
        [
          { position: 1, tokens: 1, draws: 1 },
          { position: 8, tokens: 8, draws: 2 },
          { position: TOKENS, tokens: 1, draws: 1 }
        ]
      ]
      const drawn = []
      for (const parts of steps) {
        const rows = parts.reduce((sum, { tokens }) => sum + tokens, 0)
        const output = await batch.step(sequences, { parts, input: IDS.slice(0, rows) })
        if (output.kind !== 'drawn') throw new Error(output.kind)
        drawn.push(output.drawn)
      }
      expect(sequences.map(({ length }) => length)).toEqual([2, 16, TOKENS + 1])
      const tokens = [token.token, ...drawn.flat(2)]
      await whole.release()
      await inner.release()
      return {
        runs: runs(),
        counts: drawn.map(step => step.map(own => own.length)),
        ids: tokens.map(token => token?.id),
        numbers: [...numbers, ...tokens.map(token => token?.logprob ?? Number.NaN)]
      }
    }
    const expected = await results(CPU)
    expect(expected.counts).toEqual([
      [1, 0, 4],
      [1, 2, 1]
    ])
    // With slots that are a tensor each, as a GPU's are, and with slots that are one.
    for (const joins of [false, true]) {
      const found = await results(new ShortRuns(joins))
      expect(found.ids).toEqual(expected.ids)
      expect(found.counts).toEqual(expected.counts)
      expect(found.runs).toBeGreaterThan(expected.runs)
      expect(distance(found.numbers, expected.numbers)).toBeLessThan(1e-4)
    }
  })
})

it('a step that fails behind its first run leaves the sequence as it was', async () => {
  await using model = await randomModel()
  const { manifest, blobsDir } = model
  const shard = await ShardExecutor.load({ manifest, range: [0, 5], blobsDir }, new ShortRuns(false))
  const sequence = await Sequence.open(shard, { maxTokens: 2 * TOKENS, pooling: 'mean' })
  const expected = pooledOf(await sequence.forward({ position: 0, input: IDS, sample: true }))
  await sequence.trim(0)
  const first = { position: 0, input: IDS.slice(0, TOKENS), sample: false }
  await sequence.forward(first)
  const run = shard.run.bind(shard)
  let left = 1
  shard.run = async (feeds, fetches) => {
    if (left-- === 0) throw new Error('lost')
    await run(feeds, fetches)
  }
  const next = { position: TOKENS, input: IDS.slice(TOKENS), sample: true }
  await expect(sequence.forward(next)).rejects.toThrow('lost')
  expect(sequence.length).toBe(TOKENS)
  left = Infinity
  const found = pooledOf(await sequence.forward(next))
  expect(distance([...found], [...expected])).toBeLessThan(1e-5)
  await shard.release()
})

/** The largest difference. */
function distance(one: readonly number[], other: readonly number[]): number {
  return Math.max(...one.map((x, i) => Math.abs(x - (other[i] ?? Number.NaN))))
}

function pooledOf(output: StepOutput): Float32Array {
  if (output.kind !== 'pooled') throw new Error(output.kind)
  return output.pooled
}

/** Counts the runs of a shard from now on. */
function countedRuns(shard: ShardExecutor): () => number {
  const run = shard.run.bind(shard)
  let runs = 0
  shard.run = async (feeds, fetches) => {
    runs++
    await run(feeds, fetches)
  }
  return () => runs
}
