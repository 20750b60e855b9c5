import type { ModelShape } from '../manifest.ts'

/**
 * Rows that so many tokens of a sequence are computed as where bits count: kernels for a single row add in another order
 * than those for more. ONNX Runtime's attention (MLAS, flashattn.cpp) takes rows in blocks of two head sizes, so that a
 * single row must not be left for the last block either. One row more than there are tokens at most.
 */
export function exactRows({ headSize }: Pick<ModelShape, 'headSize'>, tokens: number): number {
  return tokens % (2 * headSize) === 1 ? tokens + 1 : tokens
}
