import { isDeepStrictEqual } from 'node:util'
import type { Block, ModelShape } from './manifest-schema.ts'

/** What decoder layer `layer` (1..L) computes. */
export function blockOf({ blocks, layout }: Pick<ModelShape, 'blocks' | 'layout'>, layer: number): Block {
  return blocks[layout[(layer - 1) % layout.length]!]!
}

/** The blocks of decoder layers 1..L in the one form that a manifest may have: each once, in the shortest pattern. */
export function arrangeBlocks(layers: readonly Block[]): Pick<ModelShape, 'blocks' | 'layout'> {
  const blocks: Block[] = []
  const numbers = layers.map(layer => {
    const found = blocks.findIndex(block => isDeepStrictEqual(block, layer))
    return found >= 0 ? found : blocks.push(layer) - 1
  })
  let period = 1
  while (numbers.some((number, i) => number !== numbers[i % period])) period++
  return { blocks, layout: numbers.slice(0, period) }
}

/** The blocks of all decoder layers, in order. */
export function expandBlocks(shape: Pick<ModelShape, 'blocks' | 'layout' | 'decoderLayers'>): Block[] {
  return Array.from({ length: shape.decoderLayers }, (_, i) => blockOf(shape, i + 1))
}
