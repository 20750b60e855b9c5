import { describe, expect, it } from 'vitest'
import { arrangeBlocks, blockOf, expandBlocks } from '../../models/blocks.ts'
import { LLAMA_BLOCK } from '../../models/import/architectures/architecture.ts'
import type { Block } from '../../models/manifest.ts'

const turning = LLAMA_BLOCK
const still: Block = { ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, rotary: 'none' } }

describe('arrangeBlocks', () => {
  it.each([
    [[turning, turning, turning], 1, [0]],
    [[turning, turning, turning, still], 2, [0, 0, 0, 1]],
    [[still, turning, still, turning, still], 2, [0, 1]],
    [[still, turning, turning], 2, [0, 1, 1]]
  ])('finds the shortest pattern of %#', (layers, count, layout) => {
    const arranged = arrangeBlocks(layers.map(block => structuredClone(block)))
    expect(arranged.blocks).toHaveLength(count)
    expect(arranged.layout).toEqual(layout)
    expect(expandBlocks({ ...arranged, decoderLayers: layers.length })).toEqual(layers)
  })

  it('goes on from the pattern’s start behind its end', () => {
    const arranged = arrangeBlocks([turning, still])
    expect([1, 2, 3, 4].map(layer => blockOf(arranged, layer).attention.rotary)).toEqual([
      'half-split',
      'none',
      'half-split',
      'none'
    ])
  })
})
