import { describe, expect, it } from 'vitest'
import { KvCache } from '../../../models/runtime/kv-cache.ts'
import { hiddenBytes, kvBytes, weightBytes } from '../../../models/runtime/memory.ts'
import { randomModel, TINY_SHAPE } from '../../fixtures/random-model.ts'

describe('KvCache', () => {
  it('holds the decoder layers of its range only', () => {
    const layers = new KvCache(TINY_SHAPE, [0, 3], 10).view()
    expect(layers.map(l => l.layer)).toEqual([1, 2])
    // 2 key-value heads x 10 tokens x head size 16
    expect(layers[0]!.key.length).toBe(320)
    expect(new KvCache(TINY_SHAPE, [4, 5], 10).view()).toEqual([])
  })

  it('gives neighbouring slots as views of the same memory', () => {
    const cache = new KvCache(TINY_SHAPE, [1, 2], 10, 4)
    cache.view(2, 3)[0]!.value[0] = 7
    expect(cache.view()[0]!.value[2 * 320]).toBe(7)
    expect(cache.view(1, 3)[0]!.value[320]).toBe(7)
    expect(cache.view(1, 3)[0]!.value.length).toBe(640)
  })

  it('copies the first tokens of a slot, of every head and layer, and nothing else', () => {
    const cache = new KvCache(TINY_SHAPE, [0, 5], 10, 3)
    for (const { key, value } of cache.view()) {
      for (const data of [key, value]) data.set(data.map((_, i) => i))
    }
    const before = cache.view().map(({ key }) => [...key])
    cache.copy(2, 0, 4)
    for (const [i, { key, value }] of cache.view().entries()) {
      // 2 heads x 10 tokens x head size 16; the slot that was copied begins 640 numbers behind.
      const expected = before[i]!.map((number, at) => (at < 320 && at % 160 < 64 ? number + 640 : number))
      expect([...key]).toEqual(expected)
      expect([...value]).toEqual(expected)
    }
  })

  it('gives its memory back at once when it is freed', () => {
    const cache = new KvCache(TINY_SHAPE, [0, 5], 10, 2)
    const views = cache.view(1, 2)
    cache.free()
    expect(views.map(({ key, value }) => [key.buffer.byteLength, value.buffer.byteLength])).toEqual([
      [0, 0],
      [0, 0],
      [0, 0]
    ])
  })

  it('takes the bytes that kvBytes says', () => {
    const bytes = new KvCache(TINY_SHAPE, [0, 5], 10).view().reduce((sum, l) => sum + l.key.byteLength * 2, 0)
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
