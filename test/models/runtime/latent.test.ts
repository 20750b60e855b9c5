import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { parseConfig } from '../../../models/import/config.ts'
import { startRuntime } from '../../../models/runtime/client.ts'
import { CpuProcessor } from '../../../models/runtime/cpu-processor.ts'
import { allocateHidden } from '../../../models/runtime/hidden.ts'
import { KvCache } from '../../../models/runtime/kv-cache.ts'
import { kvBytesPerToken, kvCacheBytes, leaseBytes } from '../../../models/runtime/memory.ts'
import type { Runtime, ShardBatch } from '../../../models/runtime/runtime.ts'
import { LATENT, randomModel, TINY_SHAPE } from '../../fixtures/random-model.ts'

const processor = new CpuProcessor({ threads: 1, spinUs: 0 })
const SHAPE = { ...TINY_SHAPE, ...LATENT }

describe('the cache of latent vectors', () => {
  it('holds one vector a token, of which keys and values are made', async () => {
    const cache = await KvCache.allocate(processor, SHAPE, [1, 2], 200, 3)
    const [layer] = cache.view()
    // Whole steps of 64 tokens, 264 wide and 24 that are turned.
    expect(layer!.key.dims).toEqual([3, 1, 256, 288])
    expect(layer!.value).toBeUndefined()
    const { buffer } = layer!.key.data as Float32Array
    cache.free()
    expect(buffer.byteLength).toBe(0)
  })

  it('takes the bytes that a lease counts', async () => {
    for (const maxTokens of [1, 127, 128, 500]) {
      const held = (await KvCache.allocate(processor, SHAPE, [0, 5], maxTokens + 1, 2)).view()
      const bytes = held.reduce((sum, { key }) => sum + (key.data as Float32Array).byteLength, 0)
      expect(kvCacheBytes(SHAPE, [0, 5], { slots: 2, maxTokens })).toBe(bytes)
    }
    await using model = await randomModel({ shape: LATENT })
    const lease = (maxTokens: number) => leaseBytes(model.manifest, [1, 4], { slots: 1, maxTokens }).ownBytes
    // Of each cached token: what is kept, what is looked at once more, and scores of 32 tokens for 4 heads.
    expect(lease(2 ** 16) - lease(2 ** 15)).toBeGreaterThan(2 ** 15 * 4 * (3 * 288 + 288 + 32 * 4 * 3))
  })

  it('is many times smaller than keys and values', () => {
    const lite = {
      ...{ model_type: 'deepseek_v2', hidden_size: 2048, intermediate_size: 10_944, num_hidden_layers: 27 },
      ...{ num_attention_heads: 16, q_lora_rank: null, vocab_size: 102_400, n_routed_experts: 64 }
    }
    const { shape } = parseConfig(lite, 'config.json')
    expect(kvBytesPerToken(shape, 1)).toBe((512 + 64) * 4)
    // 16 heads of 192 for keys and of 128 for values.
    expect((16 * (192 + 128) * 4) / kvBytesPerToken(shape, 1)).toBeGreaterThan(8)
  })

  it('copies the first tokens of a slot', async () => {
    const cache = await KvCache.allocate(processor, SHAPE, [1, 2], 10, 2)
    const key = cache.view()[0]!.key.data as Float32Array
    key.set(key.map((_, i) => i))
    const before = [...key]
    await cache.copy(1, 0, 3)
    expect([...key]).toEqual(before.map((number, at) => (at < 3 * 288 ? number + 128 * 288 : number)))
  })
})

describe('attention over latent vectors', () => {
  let runtime: Runtime
  beforeAll(async () => {
    runtime = await startRuntime({ threads: 1 })
  })
  afterAll(() => runtime.stop())

  it('is not harmed by what a slot held before, nor by others beside it', async () => {
    await using model = await randomModel({ shape: LATENT })
    const shard = await runtime.load({ manifest: model.manifest, range: [1, 3], blobsDir: model.blobsDir })
    const input = allocateHidden(3, 64)
    input.data.forEach((_, i) => void (input.data[i] = Math.sin(i)))
    const broken = allocateHidden(20, 64)
    for (const bad of [Number.NaN, Number.POSITIVE_INFINITY, 3e38]) {
      broken.data.fill(bad)
      const expected = await computed(await shard.openBatch({ slots: 2, maxTokens: 32 }))
      const batch = await shard.openBatch({ slots: 2, maxTokens: 32 })
      const harmful = [await batch.open(), await batch.open()]
      for (const session of harmful) {
        const output = await session.forward({ position: 0, input: broken, sample: false })
        if (output.kind !== 'hidden') throw new Error(output.kind)
        // What comes of them is told by the next stage.
        if (Number.isNaN(bad)) expect(output.hidden.data.every(Number.isNaN)).toBe(true)
      }
      await harmful[0]!.close()
      expect(await computed(batch), `${bad}`).toEqual(expected)
    }

    async function computed(batch: ShardBatch): Promise<number[]> {
      const session = await batch.open({ slot: 0 })
      const output = await session.forward({ position: 0, input, sample: false })
      if (output.kind !== 'hidden') throw new Error(output.kind)
      return [...output.hidden.data]
    }
  })
})
