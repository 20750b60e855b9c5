import { afterEach, expect, test, vi } from 'vitest'
import { Batch } from '../../../models/runtime/batch.ts'
import { CpuProcessor } from '../../../models/runtime/cpu-processor.ts'
import { HeadBuffers } from '../../../models/runtime/head-buffers.ts'
import { Sequence } from '../../../models/runtime/sequence.ts'
import { ShardExecutor } from '../../../models/runtime/shard-executor.ts'
import { randomModel } from '../../fixtures/random-model.ts'
import { GREEDY } from '../../fixtures/shards.ts'

const DRAW_MS = 5
afterEach(() => void vi.restoreAllMocks())

test('what a head takes of a step is its logits and its draws, as many as there are', async () => {
  await using model = await randomModel({})
  const { manifest, blobsDir } = model
  const range = [0, manifest.layers.length] as const
  const processor = new CpuProcessor({ threads: 1, spinUs: 0 })
  const shard = await ShardExecutor.load({ manifest, range: [...range], blobsDir, lanes: 2 }, processor)
  let nowMs = 0
  vi.spyOn(performance, 'now').mockImplementation(() => nowMs)
  const { sample } = HeadBuffers.prototype
  vi.spyOn(HeadBuffers.prototype, 'sample').mockImplementation(function (this: HeadBuffers, ...args) {
    nowMs += DRAW_MS
    return sample.apply(this, args)
  })
  const alone = await Sequence.open(shard, { maxTokens: 8, sampling: GREEDY })
  const input = Int32Array.of(5)
  const drawn = await alone.forward({ position: 0, input, sample: true })
  expect(drawn.computeMs).toBe(DRAW_MS)
  expect((await alone.forward({ position: 1, input, sample: false })).computeMs).toBe(0)
  const batch = await Batch.allocate(shard, { slots: 2, maxTokens: 8 })
  const both = [await batch.open({ sampling: GREEDY }), await batch.open({ sampling: GREEDY })]
  const parts = both.map(() => ({ position: 0, tokens: 1, draws: 1 }))
  const step = await batch.step(both, { parts, input: Int32Array.of(5, 6) })
  expect(step.computeMs).toBe(2 * DRAW_MS)
  batch.free()
  await shard.release()
})
