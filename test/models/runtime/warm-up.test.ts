import { afterAll, beforeAll, expect, test } from 'vitest'
import { startRuntime } from '../../../models/runtime/client.ts'
import type { Runtime } from '../../../models/runtime/runtime.ts'
import { warmUp } from '../../../models/runtime/warm-up.ts'
import { type RandomModel, randomModel } from '../../fixtures/random-model.ts'
import { LocalStages } from '../../fixtures/shards.ts'

let runtime: Runtime
let model: RandomModel
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
  model = await randomModel()
})
afterAll(async () => void (await Promise.all([runtime.stop(), model[Symbol.asyncDispose]()])))

test('any part of a model computes a prompt and a token for nobody, and answers afterwards as if it had not', async () => {
  await using stages = await LocalStages.open(runtime, model, [1, 2])
  const expected = await stages.feed([5, 102, 39])
  for (const shard of stages.shards) await warmUp(shard)
  await stages.restart()
  expect(await stages.feed([5, 102, 39])).toEqual(expected)
})

test('what ends meanwhile is said, and a shard that was released stays so', async () => {
  const { manifest, blobsDir } = model
  const shard = await runtime.load({ manifest, range: [0, 1], blobsDir })
  await shard.release()
  await expect(warmUp(shard)).rejects.toMatchObject({ code: 'runtime_input_invalid' })
})
