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
import { ModelStore } from '../../models/store/store.ts'
import { BUNDLED_DIR } from '../../node/bundled.ts'
import { prng } from '../fixtures/prng.ts'
import {
  BESIDE,
  BIASED,
  LATENT,
  MIXED,
  type RandomModel,
  type RandomModelOptions,
  randomModel
} from '../fixtures/random-model.ts'

const CASES: Record<string, RandomModelOptions> = {
  float32: {},
  'heads of 8, norms': { shape: { headSize: 8 }, optional: ['q_norm', 'k_norm'] },
  'float32, experts': { shape: MIXED },
  'q4, experts': { shape: MIXED, quantization: { bits: 4, blockSize: 32 } },
  'q4, sinks and biases': { shape: BIASED, quantization: { bits: 4, blockSize: 32 } },
  'q4, latent vectors': { shape: LATENT, quantization: { bits: 4, blockSize: 32 } },
  'q4, experts beside a dense unit': { shape: BESIDE, quantization: { bits: 4, blockSize: 32 } },
  q8: { quantization: { bits: 8, blockSize: 32 } },
  q4: { quantization: { bits: 4, blockSize: 32 } },
  'q4, shifted': { quantization: { bits: 4, blockSize: 32, shifted: true } }
}
const SLOTS = 5
const TOKENS = 50
/** Sequences that are computed in each way: `npm run test:exact` takes more of them. */
const SEQUENCES = Number(process.env.EDGESHARD_EXACT_SEQUENCES ?? 3)
/** Where a model is cut, as shares of its layers, and how many lanes its shards have. */
const WAYS = [
  { cuts: [], lanes: 8 },
  { cuts: [], lanes: 3 },
  { cuts: [0.4, 0.8], lanes: 4 },
  { cuts: [0.2, 0.6], lanes: 1 }
]

type Model = Pick<RandomModel, 'manifest' | 'blobsDir'>
type Drawn = (SampledToken | undefined)[]

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

/** Every other sequence takes the likeliest token. */
const samplingOf = (seed: number): Sampling => ({
  temperature: seed % 2 === 0 ? 0 : 0.9,
  topP: 0.9,
  seed,
  topLogprobs: 4
})

/** What a sequence goes on from: its slot's last one, or that in another slot. */
interface Kept {
  keepTokens: number
  copyFrom?: number
}

/** A model in stages. */
class Stages {
  readonly #batches: ShardBatch[] = []
  readonly #sessions: ShardSession[][] = []

  static async load({ manifest, blobsDir }: Model, { cuts, lanes }: (typeof WAYS)[number]): Promise<Stages> {
    const stages = new Stages()
    const count = manifest.layers.length
    const edges = [0, ...cuts.map(share => Math.round(share * count)), count]
    for (let i = 0; i + 1 < edges.length; i++) {
      const range: LayerRange = [edges[i]!, edges[i + 1]!]
      const shard = await runtime.load({ manifest, range, blobsDir, lanes })
      stages.#batches.push(await shard.openBatch({ slots: SLOTS, maxTokens: TOKENS }))
    }
    return stages
  }

  /** @returns whether the kernels here keep the promise, by their own check */
  async open(slot: number, seed: number, exact: boolean, kept: Kept = { keepTokens: 0 }): Promise<boolean> {
    await Promise.all(this.#sessions[slot]?.map(session => session.close()) ?? [])
    this.#sessions[slot] = await Promise.all(
      this.#batches.map(batch => batch.open({ slot, exact, ...kept, sampling: samplingOf(seed) }))
    )
    return this.#sessions[slot]!.every(({ exact }) => exact)
  }

  async step(slots: number[], parts: StepPart[], ids: number[]): Promise<Drawn[]> {
    let input: Parameters<ShardBatch['step']>[1]['input'] = Int32Array.from(ids)
    for (const [at, batch] of this.#batches.entries()) {
      const output = await batch.step(
        slots.map(slot => this.#sessions[slot]![at]!),
        { parts, input }
      )
      if (output.kind === 'drawn') return output.drawn
      input = output.hidden
    }
    throw new Error('no stage sampled')
  }
}

/** A sequence on its way: which of the texts, in which slot, and how far. */
interface Going {
  text: number
  slot: number
  length: number
}

/**
 * Feeds the texts in random company: they join when a slot is free and leave at their end, in chunks of any size, some of
 * them with a wrong guess behind, which the next step forgets. Each comes a second time, behind what it has in
 * common with one in any slot, perhaps one that is on its way. @returns tokens that were compared
 */
async function compare(
  model: Model,
  texts: number[][],
  expected: Drawn[],
  random: () => number
): Promise<number> {
  const { vocabSize } = model.manifest.shape
  const below = (n: number) => Math.floor(random() * n)
  let compared = 0
  let kept = 0
  let copied = 0
  for (const way of WAYS) {
    const stages = await Stages.load(model, way)
    const waiting = [...texts.keys(), ...texts.keys()]
    /** The text that each slot has or had last. */
    const held = new Map<number, number>()
    const keptFor = (text: number, slot: number): Kept => {
      const found = [...held].map(([other, last]): Required<Kept> => {
        const { length } = going.find(({ slot }) => slot === other) ?? { length: TOKENS }
        // The last token is fed again, for one to be drawn behind it.
        const most = Math.min(length, TOKENS - 1)
        return { keepTokens: Math.min(commonLength(texts[text]!, texts[last]!), most), copyFrom: other }
      })
      const best = found.sort((a, b) => b.keepTokens - a.keepTokens)[0] ?? { keepTokens: 0, copyFrom: slot }
      return best.copyFrom === slot ? { keepTokens: best.keepTokens } : best
    }
    let going: Going[] = []
    while (waiting.length + going.length > 0) {
      if (waiting.length > 0 && going.length < SLOTS && random() < 0.4) {
        const slot = [...Array(SLOTS).keys()].find(slot => going.every(other => other.slot !== slot))!
        const text = waiting.shift()!
        const { keepTokens, copyFrom } = keptFor(text, slot)
        await stages.open(slot, text, true, { keepTokens, ...(copyFrom !== undefined && { copyFrom }) })
        held.set(slot, text)
        if (copyFrom === undefined) kept += keepTokens
        else copied += keepTokens
        going.push({ text, slot, length: keepTokens })
      }
      const taking = going.filter(() => random() < 0.7)
      if (taking.length === 0) continue
      const steps = taking.map(one => {
        const right = Math.min([1, 1, 1, 2, 3, 17][below(6)]!, TOKENS - one.length)
        const wrong = one.length + right < TOKENS && random() < 0.3 ? 1 : 0
        const ids = texts[one.text]!.slice(one.length, one.length + right)
        if (wrong === 1) ids.push(below(vocabSize))
        const part = { position: one.length, tokens: ids.length, draws: Math.min(2, ids.length) }
        return { one, right, ids, part }
      })
      const drawn = await stages.step(
        taking.map(({ slot }) => slot),
        steps.map(({ part }) => part),
        steps.flatMap(({ ids }) => ids)
      )
      for (const [i, { one, right, part }] of steps.entries()) {
        const first = part.tokens - part.draws
        for (let at = first; at < right; at++) {
          expect(drawn[i]![at - first]).toEqual(expected[one.text]![one.length + at])
          compared++
        }
        one.length += right
      }
      going = going.filter(({ length }) => length < TOKENS)
    }
  }
  expect(Math.min(kept, copied)).toBeGreaterThan(0)
  return compared
}

function commonLength(a: readonly number[], b: readonly number[]): number {
  const parted = a.findIndex((id, i) => id !== b[i])
  return parted < 0 ? a.length : parted
}

/** Whether this machine's kernels round otherwise for steps of 2 rows than for steps of 3 and 8, by themselves. */
async function roundsBySize(model: Model, ids: number[]): Promise<boolean> {
  const stages = await Stages.load(model, { cuts: [], lanes: 1 })
  const ways: string[] = []
  for (const size of [2, 3, 8]) {
    await stages.open(0, 0, false)
    const drawn: Drawn = []
    // As many as are whole steps of each size.
    for (let position = 0; position < 48; position += size) {
      const part = { position, tokens: size, draws: Math.min(2, size) }
      const [last] = await stages.step([0], [part], ids.slice(position, position + size))
      if ((position + size) % 24 === 0) drawn.push(last!.at(-1))
    }
    ways.push(JSON.stringify(drawn))
  }
  return new Set(ways).size > 1
}

async function keepsItsBits(model: Model, skip: (why: string) => never): Promise<void> {
  const random = prng(5)
  const below = (n: number) => Math.floor(random() * n)
  const first = Array.from({ length: TOKENS }, () => below(model.manifest.shape.vocabSize))
  const texts = Array.from({ length: SEQUENCES }, () => {
    const common = below(TOKENS)
    return first.map((id, i) => (i < common ? id : below(model.manifest.shape.vocabSize)))
  })
  const alone = await Stages.load(model, { cuts: [], lanes: 1 })
  const expected: Drawn[] = []
  for (const [text, ids] of texts.entries()) {
    if (!(await alone.open(0, text, true))) {
      expect(await roundsBySize(model, ids), 'it is not the kernels that the check failed for').toBe(true)
      skip('the kernels of this machine do not keep bits')
    }
    const drawn: Drawn = []
    for (let position = 0; position < TOKENS; position += 2) {
      const part = { position, tokens: 2, draws: 2 }
      drawn.push(...(await alone.step([0], [part], ids.slice(position, position + 2)))[0]!)
    }
    expected.push(drawn)
  }
  const compared = await compare(model, texts, expected, random)
  expect(compared).toBeGreaterThan((WAYS.length * SEQUENCES * TOKENS) / 4)
}

describe.each(Object.entries(CASES))('%s', (_, options) => {
  it('has, exact, the bits that it has alone, in any company, cut and order of steps', async ctx => {
    await using model = await randomModel(options)
    await keepsItsBits(model, why => ctx.skip(why))
  })
})

it('the bundled model has, exact, the bits that it has alone, in any company, cut and order of steps', async ctx => {
  const store = ModelStore.at(BUNDLED_DIR)
  const [model] = await store.list()
  await keepsItsBits({ manifest: model!.manifest, blobsDir: store.blobsDir }, why => ctx.skip(why))
})
