import { describe, expect, it } from 'vitest'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import { leaseBytes } from '../../models/runtime/memory.ts'
import { randomManifest } from '../../models/runtime/random-weights.ts'
import { TINY_SHAPE } from '../fixtures/random-model.ts'
import { memoryForThree, sharedMemory } from './thirds.ts'

describe('memory for three devices', () => {
  it('holds a third of a model and not half of it', () => {
    const manifest = randomManifest({ ...TINY_SHAPE, decoderLayers: 7 }, undefined)
    const bytes = (range: [number, number]) => {
      const { weightBytes, ownBytes } = leaseBytes(manifest, range, { slots: 1, maxTokens: 64 })
      return weightBytes + ownBytes
    }
    const { least, tooMuch } = memoryForThree(manifest, 64)
    expect(least).toBeLessThan(tooMuch)
    expect(3 * least).toBeGreaterThanOrEqual(bytes([0, 9]))
    expect(2 * tooMuch).toBeGreaterThanOrEqual(bytes([0, 9]))
    const fits = (range: [number, number]) => bytes(range) <= least
    const cuts = Array.from({ length: 8 }, (_, i) => i + 1)
    expect(cuts.some(a => cuts.some(b => fits([0, a]) && b > a && fits([a, b]) && fits([b, 9])))).toBe(true)
    expect(cuts.some(cut => bytes([0, cut]) < tooMuch && bytes([cut, 9]) < tooMuch)).toBe(false)
  })

  it('leaves the source no room for both ends of a model whose middle one device holds', () => {
    const wide = {
      ...LLAMA_BLOCK,
      feedForward: { ...LLAMA_BLOCK.feedForward, size: 16 * TINY_SHAPE.ffnSize }
    }
    const shape = { ...TINY_SHAPE, decoderLayers: 4, blocks: [LLAMA_BLOCK, wide], layout: [0, 1, 1, 1] }
    const manifest = randomManifest(shape, undefined)
    const { weightBytes, ownBytes } = leaseBytes(manifest, [3, 5], { slots: 1, maxTokens: 64 })
    expect(memoryForThree(manifest, 64).tooMuch).toBeLessThanOrEqual(weightBytes + ownBytes)
  })

  it('is one for all models that it splits', () => {
    const models = [
      { name: 'b', least: 10, tooMuch: 20 },
      { name: 'a', least: 8, tooMuch: 14 },
      { name: 'c', least: 15, tooMuch: 30 }
    ]
    const groups = sharedMemory(models)
    expect(groups.map(({ memoryBytes, models }) => [memoryBytes, models.map(({ name }) => name)])).toEqual([
      [13, ['a', 'b']],
      [29, ['c']]
    ])
  })
})
