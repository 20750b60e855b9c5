import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { LayerRange } from '../../models/layers.ts'
import { startRuntime } from '../../models/runtime/client.ts'
import type {
  Runtime,
  SampledToken,
  ShardBatch,
  ShardSession,
  StepPart
} from '../../models/runtime/runtime.ts'
import type { Sampling } from '../../models/runtime/sampler.ts'
import { prng } from '../fixtures/prng.ts'
import { type RandomModel, type RandomModelOptions, randomModel } from '../fixtures/random-model.ts'

const CASES: Record<string, RandomModelOptions> = {
  float32: {},
  'heads of 8, norms': { shape: { headSize: 8 }, optional: ['q_norm', 'k_norm'] },
  q8: { quantization: { bits: 8, blockSize: 32 } },
  q4: { quantization: { bits: 4, blockSize: 32 } },
  'q4, shifted': { quantization: { bits: 4, blockSize: 32, shifted: true } }
}
const SLOTS = 5
const TOKENS = 60
const SAMPLING: Sampling = { temperature: 0.9, topP: 0.9, seed: 11, topLogprobs: 4 }
let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

/** A model cut at edges, whose stages each have a batch of sequences. */
class Stages {
  readonly batches: ShardBatch[] = []
  readonly sessions: ShardSession[][] = []

  static async load({ manifest, blobsDir }: RandomModel, edges: number[], lanes: number): Promise<Stages> {
    const stages = new Stages()
    for (let i = 0; i + 1 < edges.length; i++) {
      const range: LayerRange = [edges[i]!, edges[i + 1]!]
      const shard = await runtime.load({ manifest, range, blobsDir, lanes })
      stages.batches.push(await shard.openBatch({ slots: SLOTS, maxTokens: TOKENS }))
    }
    return stages
  }

  /** Whether the kernels here keep the promise, by their own check. */
  get exact(): boolean {
    return this.sessions.flat().every(({ exact }) => exact)
  }

  async open(slot: number): Promise<void> {
    this.sessions[slot] = await Promise.all(
      this.batches.map(batch => batch.open({ slot, exact: true, sampling: { ...SAMPLING, seed: slot } }))
    )
  }

  async step(slots: number[], parts: StepPart[], ids: number[]): Promise<(SampledToken | undefined)[][]> {
    let input: Parameters<ShardBatch['step']>[1]['input'] = Int32Array.from(ids)
    for (const [at, batch] of this.batches.entries()) {
      const output = await batch.step(
        slots.map(slot => this.sessions[slot]![at]!),
        { parts, input }
      )
      if (output.kind === 'drawn') return output.drawn
      input = output.hidden
    }
    throw new Error('no stage sampled')
  }
}

describe.each(Object.entries(CASES))('%s', (_, options) => {
  it('gives each sequence the bits that it has alone, in any company, cut and order of steps', async ctx => {
    await using model = await randomModel(options)
    const { vocabSize } = model.manifest.shape
    const random = prng(5)
    const below = (n: number) => Math.floor(random() * n)
    const texts = Array.from({ length: SLOTS }, () => Array.from({ length: TOKENS }, () => below(vocabSize)))
    const alone = await Stages.load(model, [0, 5], 1)
    const expected: SampledToken[][] = []
    for (const [slot, text] of texts.entries()) {
      await alone.open(slot)
      if (!alone.exact) ctx.skip('the kernels of this machine do not keep bits')
      expected[slot] = []
      // Two rows at a time, the last one alone where there is one.
      for (let position = 0; position < TOKENS; position += 2) {
        const tokens = Math.min(2, TOKENS - position)
        const ids = text.slice(position, position + tokens)
        const [drawn] = await alone.step([slot], [{ position, tokens, draws: tokens }], ids)
        expected[slot]!.push(...drawn!.map(token => token!))
      }
    }
    let compared = 0
    for (const [edges, lanes] of [
      [[0, 5], 8],
      [[0, 5], 3],
      [[0, 2, 4, 5], 4],
      [[0, 1, 3, 5], 1]
    ] as const) {
      const stages = await Stages.load(model, [...edges], lanes)
      const lengths = texts.map(() => 0)
      for (const slot of texts.keys()) await stages.open(slot)
      while (lengths.some(length => length < TOKENS)) {
        const slots = [...texts.keys()].filter(slot => lengths[slot]! < TOKENS && random() < 0.7)
        if (slots.length === 0) continue
        const right = slots.map(slot => {
          const most = [1, 1, 2, 3, 17][below(5)]!
          return Math.min(most, TOKENS - lengths[slot]!)
        })
        // Some are followed by a wrong guess, which the next step forgets.
        const wrong = slots.map((slot, i) => (lengths[slot]! + right[i]! < TOKENS && random() < 0.3 ? 1 : 0))
        const parts = slots.map((slot, i) => {
          const tokens = right[i]! + wrong[i]!
          return { position: lengths[slot]!, tokens, draws: Math.min(2, tokens) }
        })
        const ids = slots.flatMap((slot, i) => [
          ...texts[slot]!.slice(lengths[slot]!, lengths[slot]! + right[i]!),
          ...(wrong[i] === 1 ? [below(vocabSize)] : [])
        ])
        const drawn = await stages.step(slots, parts, ids)
        slots.forEach((slot, i) => {
          const { position, tokens, draws } = parts[i]!
          for (let at = tokens - draws; at < right[i]!; at++) {
            expect(drawn[i]![at - tokens + draws]).toEqual(expected[slot]![position + at])
            compared++
          }
          lengths[slot] = position + right[i]!
        })
      }
    }
    expect(compared).toBeGreaterThan(4 * SLOTS * 20)
  })
})
