import type { ExpertsSpec } from '../block-schema.ts'
import type { ModelShape } from '../manifest.ts'
import { type GraphBuilder, int64 } from './builder.ts'
import { routedUnits, unit } from './feed-forward.ts'
import { normalise } from './norm.ts'
import type { LayerWeights } from './weights.ts'

/**
 * The sum of what a dense unit makes of the normed stream and what experts make of the stream, which they and their router
 * normalise in ways of their own (Gemma 4). Both have the last axis of `rank`, which is the hidden one.
 *
 * @param expertSize of each expert; the dense unit has the model's ffnSize
 */
export function expertsBeside(
  graph: GraphBuilder,
  shape: ModelShape,
  spec: ExpertsSpec,
  expertSize: number,
  weights: LayerWeights,
  { normed, stream }: { normed: string; stream: string },
  rank: 2 | 3
): string {
  const { hiddenSize, ffnSize } = shape
  const norm = (name: string, x: string, axis: number) =>
    normalise(graph, shape, weights.constant(name), x, axis)
  const names = ['gate_up', 'ffn_down'] as const
  const dense = unit(graph, spec, { hiddenSize, ffnSize }, weights, normed, { names, rank })
  const rows = rank === 2 ? stream : graph.onnx('Reshape', [stream, int64(graph, [-1n, BigInt(hiddenSize)])])
  const sizes = { hiddenSize, ffnSize: expertSize }
  const seen = norm('router_norm', rows, 1)
  const made = routedUnits(graph, spec, sizes, weights, norm('experts_norm', rows, 1), seen)
  const routed = norm('experts_post_norm', made, 1)
  const back = rank === 2 ? routed : graph.onnx('Reshape', [routed, graph.onnx('Shape', [stream])])
  return graph.onnx('Add', [norm('dense_post_norm', dense, rank - 1), back])
}
