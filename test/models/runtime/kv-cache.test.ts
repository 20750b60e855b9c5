import { describe, expect, it } from 'vitest'
import type { LayerRange } from '../../../models/layers.ts'
import type { Tensor } from '../../../models/onnx/session.ts'
import { CpuProcessor } from '../../../models/runtime/cpu-processor.ts'
import { KvCache } from '../../../models/runtime/kv-cache.ts'
import { hiddenBytes, kvBytes, weightBytes } from '../../../models/runtime/memory.ts'
import { randomModel, TINY_SHAPE } from '../../fixtures/random-model.ts'

const processor = new CpuProcessor({ threads: 1, spinUs: 0 })

/** The numbers themselves, of slots of every layer. */
async function cacheOf(range: LayerRange, maxTokens: number, slots?: number) {
  const cache = await KvCache.allocate(processor, TINY_SHAPE, range, maxTokens, slots)
  const numbers = (tensor: Tensor) => tensor.data as Float32Array
  const view = (start?: number, end?: number) =>
    cache
      .view(start, end)
      .map(({ layer, key, value }) => ({ layer, key: numbers(key), value: numbers(value!) }))
  return { cache, view }
}

describe('KvCache', () => {
  it('holds the decoder layers of its range only', async () => {
    const layers = (await cacheOf([0, 3], 10)).view()
    expect(layers.map(l => l.layer)).toEqual([1, 2])
    // 2 key-value heads x 10 tokens x head size 16
    expect(layers[0]!.key.length).toBe(320)
    expect((await cacheOf([4, 5], 10)).view()).toEqual([])
  })

  it('gives neighbouring slots as views of the same memory', async () => {
    const { view } = await cacheOf([1, 2], 10, 4)
    view(2, 3)[0]!.value[0] = 7
    expect(view()[0]!.value[2 * 320]).toBe(7)
    expect(view(1, 3)[0]!.value[320]).toBe(7)
    expect(view(1, 3)[0]!.value.length).toBe(640)
  })

  it('copies the first tokens of a slot, of every head and layer, and nothing else', async () => {
    const { cache, view } = await cacheOf([0, 5], 10, 3)
    for (const { key, value } of view()) {
      for (const data of [key, value]) data.set(data.map((_, i) => i))
    }
    const before = view().map(({ key }) => [...key])
    await cache.copy(2, 0, 4)
    for (const [i, { key, value }] of view().entries()) {
      // 2 heads x 10 tokens x head size 16; the slot that was copied begins 640 numbers behind.
      const expected = before[i]!.map((number, at) => (at < 320 && at % 160 < 64 ? number + 640 : number))
      expect([...key]).toEqual(expected)
      expect([...value]).toEqual(expected)
    }
  })

  it('brings rows to the front of a slot, of every head, and touches no other slot', async () => {
    const memory = await processor.allocate(2, [2, 10, 3])
    const data = memory.tensor(0, 2).data as Float32Array
    data.set(data.map((_, i) => i))
    await memory.toFront(1, 4, 5)
    const rows = (slot: number, head: number) => [...data.subarray((slot * 2 + head) * 30).subarray(0, 15)]
    for (const head of [0, 1]) {
      expect(rows(0, head)).toEqual(Array.from({ length: 15 }, (_, i) => head * 30 + i))
      expect(rows(1, head)).toEqual(Array.from({ length: 15 }, (_, i) => 60 + head * 30 + 12 + i))
    }
  })

  it('gives its memory back at once when it is freed', async () => {
    const { cache, view } = await cacheOf([0, 5], 10, 2)
    const views = view(1, 2)
    cache.free()
    expect(views.map(({ key, value }) => [key.buffer.byteLength, value.buffer.byteLength])).toEqual([
      [0, 0],
      [0, 0],
      [0, 0]
    ])
  })

  it('takes the bytes that kvBytes says', async () => {
    const bytes = (await cacheOf([0, 5], 10)).view().reduce((sum, l) => sum + l.key.byteLength * 2, 0)
    expect(bytes).toBe(kvBytes(TINY_SHAPE, [0, 5], 10))
    expect(bytes).toBe(3 * 2 * 2 * 16 * 10 * 4)
  })
})

describe('memory', () => {
  it('sums the weight files of a range', async () => {
    await using model = await randomModel()
    const sizes = model.files.map(file => file.length)
    expect(weightBytes(model.manifest, [1, 3])).toBe(sizes[1]! + sizes[2]!)
    expect(weightBytes(model.manifest, [0, 5])).toBe(sizes.reduce((a, b) => a + b, 0))
    expect(hiddenBytes(TINY_SHAPE, 3)).toBe(3 * 64 * 4)
  })
})
