import { expect, test } from 'vitest'
import { LLAMA_BLOCK } from '../../../models/import/architectures/architecture.ts'
import type { ModelShape } from '../../../models/manifest.ts'
import { GROUPED_FROM_TOKENS, GroupedRows, groupsHeads } from '../../../models/runtime/grouped-rows.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'

/** Two layers: groups of four heads, and of two. */
const SHAPE: ModelShape = {
  ...TINY_SHAPE,
  contextLength: 4096,
  decoderLayers: 2,
  blocks: [1, 2].map(kvHeads => ({
    ...LLAMA_BLOCK,
    attention: { ...LLAMA_BLOCK.attention, heads: 4, kvHeads }
  })),
  layout: [0, 1]
}
const CAPACITY = 2048

test('which way rows take hangs on the model, not on where it is cut', () => {
  const [whole, ...parts] = [[1, 2], [1], [2]].map(layers => GroupedRows.of(SHAPE, layers)!)
  // Room for four rows behind it, as a row of the first layer has, and not for more.
  const last = CAPACITY - 4
  for (const position of [GROUPED_FROM_TOKENS - 1, GROUPED_FROM_TOKENS, last, last + 1, last + 2]) {
    for (const rows of [1, 2, 8, 9]) {
      const lane = { position, rows, capacity: CAPACITY }
      expect(parts.map(part => part.of(lane))).toEqual([whole!.of(lane), whole!.of(lane)])
    }
  }
  const ofOne = [GROUPED_FROM_TOKENS - 1, GROUPED_FROM_TOKENS, last, last + 1].map(position =>
    whole!.of({ position, rows: 1, capacity: CAPACITY })
  )
  expect(ofOne).toEqual([0, 1, 1, 0])
  expect(whole!.of({ position: last, rows: 2, capacity: CAPACITY })).toBe(0)
})

test('there is no such way where no layer has groups, nor where no text is so long', () => {
  const alone = { ...SHAPE, blocks: [LLAMA_BLOCK], layout: [0], kvHeads: SHAPE.heads }
  expect(GroupedRows.of(alone, [1, 2])).toBeUndefined()
  const windowed = SHAPE.blocks.map(block => ({ ...block, attention: { ...block.attention, window: 8 } }))
  expect(GroupedRows.of({ ...SHAPE, blocks: windowed }, [1, 2])).toBeUndefined()
  const processor = { groupsHeads: true }
  expect(groupsHeads(processor, { contextLength: GROUPED_FROM_TOKENS })).toBe(false)
  expect(groupsHeads(processor, { contextLength: GROUPED_FROM_TOKENS + 1 })).toBe(true)
  expect(groupsHeads({ groupsHeads: false }, SHAPE)).toBe(false)
})
