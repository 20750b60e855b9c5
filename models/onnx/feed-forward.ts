import type { ExpertsSpec } from '../block-schema.ts'
import type { Block, ModelShape } from '../manifest.ts'
import { float32, type GraphBuilder, int64 } from './builder.ts'
import { routedExperts } from './experts.ts'
import type { LayerWeights } from './weights.ts'

/** Operators of ONNX Runtime's domain. QuickGelu is x * sigmoid(alpha * x): SiLU at alpha 1. */
const ACTIVATIONS = {
  silu: { op: 'QuickGelu', attributes: { alpha: { float: 1 } } },
  'quick-gelu': { op: 'QuickGelu', attributes: { alpha: { float: 1.702 } } },
  gelu: { op: 'Gelu', attributes: {} },
  'gelu-tanh': { op: 'FastGelu', attributes: {} }
} as const

type Sizes = Pick<ModelShape, 'hiddenSize' | 'ffnSize'>

/** A layer's feed-forward part of x, whose last axis of `rank` is the hidden one. */
export function feedForward(
  graph: GraphBuilder,
  spec: Block['feedForward'],
  sizes: Sizes,
  weights: LayerWeights,
  x: string,
  rank: 2 | 3
): string {
  if (spec.kind === 'gated') {
    return gatedUnit(graph, spec, sizes, weights, x, { names: ['gate_up', 'ffn_down'], rank })
  }
  if (rank === 2) return mixture(graph, spec, sizes, weights, x)
  const rows = graph.onnx('Reshape', [x, int64(graph, [-1n, BigInt(sizes.hiddenSize)])])
  return graph.onnx('Reshape', [mixture(graph, spec, sizes, weights, rows), graph.onnx('Shape', [x])])
}

/** What experts make of x (rows, hidden), and what one more does that computes all rows. */
function mixture(
  graph: GraphBuilder,
  spec: ExpertsSpec,
  { hiddenSize, ffnSize }: Sizes,
  weights: LayerWeights,
  x: string
): string {
  const { shared } = spec
  const routed = routedUnits(graph, spec, { hiddenSize, ffnSize }, weights, x)
  if (shared === undefined) return routed
  const names = ['shared_gate_up', 'shared_down'] as const
  const sizes = { hiddenSize, ffnSize: shared.size }
  const ofAll = gatedUnit(graph, spec, sizes, weights, x, { names, rank: 2 })
  if (!shared.gated) return graph.onnx('Add', [routed, ofAll])
  const gate = graph.onnx('Sigmoid', [weights.project('shared_gate', hiddenSize, x, { rank: 2 })])
  return graph.onnx('Add', [routed, graph.onnx('Mul', [ofAll, gate])])
}

/**
 * What the experts that are chosen for each row make of x (rows, hidden), together.
 *
 * @param seen what the router sees of each row, where it is not x
 */
export function routedUnits(
  graph: GraphBuilder,
  spec: ExpertsSpec,
  { hiddenSize, ffnSize }: Sizes,
  weights: LayerWeights,
  x: string,
  seen?: string
): string {
  const unit = (branch: GraphBuilder, own: LayerWeights, rows: string) =>
    gatedUnit(branch, spec, { hiddenSize, ffnSize }, own, rows, {
      names: ['expert_gate_up', 'expert_down'],
      ...(spec.bias && { biases: ['expert_gate_up_bias', 'expert_down_bias'] }),
      rank: 2
    })
  return routedExperts(graph, spec, hiddenSize, weights, x, unit, seen)
}

/** What one unit is called in its layer's file; the last axis of x is that of `rank`. */
interface UnitPlace {
  names: readonly [gateUp: string, down: string]
  biases?: readonly [gateUp: string, down: string]
  rank: 2 | 3
}

/** down(activation(gate(x)) * up(x)), gate and up being one product whose last axis is split. */
export function gatedUnit(
  graph: GraphBuilder,
  { activation, limit, upPlusOne }: Pick<Block['feedForward'], 'activation' | 'limit' | 'upPlusOne'>,
  { hiddenSize, ffnSize }: Sizes,
  weights: LayerWeights,
  x: string,
  { names: [gateUpName, downName], biases, rank }: UnitPlace
): string {
  const bias = (i: 0 | 1) => (biases === undefined ? {} : { bias: biases[i] })
  const gateUp = weights.project(gateUpName, hiddenSize, x, { rank, ...bias(0) })
  let [gate, up] = [graph.name('gate'), graph.name('up')]
  const attributes = { axis: rank - 1, num_outputs: 2 }
  graph.node({ op: 'Split', domain: '', inputs: [gateUp], outputs: [gate, up], attributes })
  if (limit !== undefined) {
    const most = float32(graph, limit)
    gate = graph.onnx('Min', [gate, most])
    up = graph.onnx('Max', [graph.onnx('Min', [up, most]), float32(graph, -limit)])
  }
  if (upPlusOne) up = graph.onnx('Add', [up, float32(graph, 1)])
  const { op, attributes: parameters } = ACTIVATIONS[activation]
  const activated = graph.contrib(op, [gate], parameters)
  const gated = graph.onnx('Mul', [activated, up])
  return weights.project(downName, ffnSize, gated, { rank, ...bias(1) })
}
