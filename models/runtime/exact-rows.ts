import { layerSizes } from '../blocks.ts'
import type { ModelShape } from '../manifest.ts'

/**
 * Rows that so many tokens of a sequence are computed as where bits count: kernels for a single row add in another order
 * than those for more. ONNX Runtime's attention (MLAS, flashattn.cpp) takes rows in blocks of two head sizes, so that a
 * single row must not be left for the last block either. One row more than there are tokens at most.
 */
export function exactRows(shape: ModelShape, tokens: number): number {
  // Blocks are even: one row is left of an odd number alone, and one more is never one too many for other layers.
  if (tokens % 2 === 0) return tokens
  const leaves = (headSize: number) => tokens % (2 * headSize) === 1
  return leaves(shape.headSize) || headSizesOf(shape).some(leaves) ? tokens + 1 : tokens
}

/** Of the decoder layers, where blocks may have their own. */
function headSizesOf(shape: ModelShape): number[] {
  return Array.from({ length: shape.decoderLayers }, (_, i) => layerSizes(shape, i + 1).headSize)
}
