import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import { prefillChunks } from '../../models/runtime/hidden.ts'
import { POOLINGS, type Pooling } from '../../models/runtime/pooling.ts'
import type { ForwardOutput, HiddenStates, Runtime, Shard } from '../../models/runtime/runtime.ts'
import { LAYERED, type RandomModel, type RandomModelOptions, randomModel } from '../fixtures/random-model.ts'
import { pooledReference } from '../reference/llama.ts'
import { ReferenceWeights } from '../reference/weights.ts'

const TOKENS = Array.from({ length: 23 }, (_, i) => (i * 37 + 5) % 160)
const TOLERANCE = 1e-5
const CASES: Record<string, RandomModelOptions> = {
  float32: {},
  'float32, layers of several kinds': { shape: LAYERED }
}

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 2 })
})
afterAll(() => runtime.stop())

/** The tokens' way through stages that end at `cuts` and at the head. */
async function stagesOf({ manifest, blobsDir }: RandomModel, cuts: number[] = []) {
  const ends = [...cuts, manifest.layers.length]
  const shards: Shard[] = []
  for (const [i, end] of ends.entries()) {
    shards.push(await runtime.load({ manifest, range: [ends[i - 1] ?? 0, end], blobsDir }))
  }
  return {
    /** What the tokens come to, in chunks of `chunk`. */
    async pooled(pooling: Pooling, { chunk = 7, exact = false } = {}): Promise<Float32Array> {
      const sessions = await Promise.all(shards.map(shard => shard.open({ maxTokens: 64, pooling, exact })))
      let last: ForwardOutput | undefined
      for (const [start, end] of prefillChunks(TOKENS.length, chunk)) {
        let input: Int32Array | HiddenStates = Int32Array.from(TOKENS.slice(start, end))
        for (const session of sessions) {
          last = await session.forward({ position: start, input, sample: end === TOKENS.length })
          if (last.kind === 'hidden') input = last.hidden
        }
      }
      await Promise.all(sessions.map(session => session.close()))
      if (last?.kind !== 'pooled') throw new Error(`got ${last?.kind} instead of a vector`)
      return last.pooled
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(shards.map(shard => shard.release()))
    }
  }
}

function distance(a: Float32Array, b: ArrayLike<number>): number {
  return a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0)
}

describe.each(Object.entries(CASES))('pooled hidden states: %s', (_, options) => {
  it('are those of a float64 forward pass, in any chunks', async () => {
    await using model = await randomModel(options)
    await using whole = await stagesOf(model)
    const weights = new ReferenceWeights(model.manifest, model.files)
    for (const pooling of POOLINGS) {
      const expected = pooledReference(weights, TOKENS, pooling)
      for (const chunk of [TOKENS.length, 22, 11, 1]) {
        const vector = await whole.pooled(pooling, { chunk })
        expect(distance(vector, expected), `${pooling} in chunks of ${chunk}`).toBeLessThan(TOLERANCE)
      }
    }
  })

  it('are the same wherever the model is cut', async () => {
    await using model = await randomModel(options)
    await using whole = await stagesOf(model)
    for (let cut = 1; cut < model.manifest.layers.length; cut++) {
      await using stages = await stagesOf(model, [cut])
      for (const pooling of POOLINGS) {
        expect(await stages.pooled(pooling), `${pooling}, cut at ${cut}`).toEqual(await whole.pooled(pooling))
      }
    }
  })
})

it('are the same to the bit in other chunks where that is asked for', async () => {
  await using model = await randomModel()
  await using whole = await stagesOf(model)
  const expected = await whole.pooled('mean', { chunk: TOKENS.length, exact: true })
  for (const chunk of [22, 1]) expect(await whole.pooled('mean', { chunk, exact: true })).toEqual(expected)
})

it('follow each other from the first token on, in steps of their own', async () => {
  await using model = await randomModel()
  const { manifest, blobsDir } = model
  const shard = await runtime.load({ manifest, range: [0, manifest.layers.length], blobsDir })
  const batch = await shard.openBatch({ slots: 2, maxTokens: 64 })
  const [one, other] = [await batch.open({ pooling: 'mean' }), await batch.open({ pooling: 'mean' })]
  const input = Int32Array.of(5, 6)
  await expect(batch.decode([one, other], { positions: [0, 0], input })).rejects.toThrow('steps of its own')
  await one.forward({ position: 0, input, sample: false })
  await one.trim(1)
  await expect(one.forward({ position: 1, input, sample: true })).rejects.toThrow('does not follow')
  await one.trim(0)
  expect(await one.forward({ position: 0, input, sample: true })).toMatchObject({ kind: 'pooled' })
  await shard.release()
})
