import { afterAll, beforeAll, expect, it } from 'vitest'
import { startRuntime } from '../../models/runtime/client.ts'
import type { Runtime } from '../../models/runtime/runtime.ts'
import { BESIDE, BIASED, MIXED, PARTED, randomModel } from '../fixtures/random-model.ts'

const TEXT = Int32Array.from({ length: 12 }, (_, i) => 7 * i + 3)
const sampling = { temperature: 0, topP: 1, seed: 0, topLogprobs: 2 }

let runtime: Runtime
beforeAll(async () => {
  runtime = await startRuntime({ threads: 1 })
})
afterAll(() => runtime.stop())

/** All chunks of a prompt but its last one: no row of them reaches the last layer's experts, where the head is behind it. */
it.each([
  ['experts', MIXED],
  ['experts last', { ...MIXED, decoderLayers: 1, layout: [0], blocks: MIXED.blocks!.slice(0, 1) }],
  ['experts alone', { ...PARTED, decoderLayers: 1, layout: [0], blocks: PARTED.blocks!.slice(1, 2) }],
  ['layers of one part', { ...PARTED, layout: [2, 0, 1] }],
  ['sinks and biases', { ...BIASED, layout: [0, 2, 1] }],
  ['experts beside a dense unit', { ...BESIDE, layout: [2, 0, 1] }]
])('steps that draw nothing, of a model with %s', async (_, shape) => {
  await using model = await randomModel({ shape })
  const { manifest, blobsDir } = model
  const shard = await runtime.load({ manifest, range: [0, manifest.layers.length], blobsDir })
  const chunks = await shard.open({ maxTokens: 20, sampling })
  expect(await chunks.forward({ position: 0, input: TEXT.subarray(0, 5), sample: false })).toMatchObject({
    kind: 'none'
  })
  const batch = await shard.openBatch({ slots: 1, maxTokens: 20 })
  const session = await batch.open({ sampling })
  const parts = [{ position: 0, tokens: 5, draws: 0 }]
  await batch.step([session], { parts, input: TEXT.subarray(0, 5) })
  const rest = { position: 5, input: TEXT.subarray(5), sample: true }
  const drawn = await chunks.forward(rest)
  expect(drawn.kind).toBe('token')
  const { computeMs: _ms, ...again } = await session.forward(rest)
  expect(drawn).toMatchObject(again)
  await Promise.all([chunks.close(), batch.close()])
  await shard.release()
})
