import type { ModelShape } from '../manifest.ts'
import type { GraphBuilder } from './builder.ts'

/** ONNX's operators by kind of norm: alone, and fused with the sum that goes in. */
const OPERATORS = {
  rms: { alone: 'SimplifiedLayerNormalization', ofSum: 'SkipSimplifiedLayerNormalization' },
  layer: { alone: 'LayerNormalization', ofSum: 'SkipLayerNormalization' }
} as const

/** The norm of x over its last axis, `axis`, times the vector `weight`. */
export function normalise(
  graph: GraphBuilder,
  { normKind, normEpsilon }: Pick<ModelShape, 'normKind' | 'normEpsilon'>,
  weight: string,
  x: string,
  axis: number
): string {
  return graph.onnx(OPERATORS[normKind].alone, [x, weight], { axis, epsilon: { float: normEpsilon } })
}

/** The norm of update + stream over the last axis, times the vector `weight`; returns the sum, too. */
export function normaliseSum(
  graph: GraphBuilder,
  { normKind, normEpsilon }: Pick<ModelShape, 'normKind' | 'normEpsilon'>,
  weight: string,
  update: string,
  stream: string
): [normed: string, sum: string] {
  const [normed, sum] = [graph.name('normed'), graph.name('sum')]
  graph.node({
    op: OPERATORS[normKind].ofSum,
    domain: 'com.microsoft',
    inputs: [update, stream, weight],
    outputs: [normed, '', '', sum],
    attributes: { epsilon: { float: normEpsilon } }
  })
  return [normed, sum]
}
