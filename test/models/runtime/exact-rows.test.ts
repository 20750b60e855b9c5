import { expect, test } from 'vitest'
import { exactRows } from '../../../models/runtime/exact-rows.ts'
import { TINY_SHAPE } from '../../fixtures/random-model.ts'

const [block] = TINY_SHAPE.blocks
/** Layers with heads of 8 in a model whose heads are of 16. */
const smallHeads = {
  ...TINY_SHAPE,
  blocks: [{ ...block!, attention: { ...block!.attention, headSize: 8 } }]
}

test.each([
  [TINY_SHAPE, 16],
  [smallHeads, 8]
])('attention is left no block of a single row, and takes one row more at most: %#', (shape, headSize) => {
  for (let tokens = 1; tokens <= 200; tokens++) {
    const rows = exactRows(shape, tokens)
    expect([0, 1]).toContain(rows - tokens)
    expect(rows % (2 * headSize)).not.toBe(1)
  }
})
