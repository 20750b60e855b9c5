import type { ExpertsSpec, UnitSpec } from '../block-schema.ts'
import type { ModelShape } from '../manifest.ts'
import { GATED, UNGATED } from '../tensors.ts'
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

/** A layer's feed-forward part, which it has, of x, whose last axis of `rank` is the hidden one. */
export function feedForward(
  graph: GraphBuilder,
  spec: UnitSpec,
  sizes: Sizes,
  weights: LayerWeights,
  x: string,
  rank: 2 | 3
): string {
  if (spec.kind === 'gated') {
    return unit(graph, spec, sizes, weights, x, { names: [namesOf(spec).dense, 'ffn_down'], rank })
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
  const names = [namesOf(spec).shared, 'shared_down'] as const
  const sizes = { hiddenSize, ffnSize: shared.size }
  const ofAll = unit(graph, spec, sizes, weights, x, { names, rank: 2 })
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
  const expert = (branch: GraphBuilder, own: LayerWeights, rows: string) =>
    unit(branch, spec, { hiddenSize, ffnSize }, own, rows, {
      names: [namesOf(spec).expert, 'expert_down'],
      ...(spec.bias && { biases: ['expert_gate_up_bias', 'expert_down_bias'] }),
      rank: 2
    })
  return routedExperts(graph, spec, hiddenSize, weights, x, expert, seen)
}

function namesOf({ ungated }: UnitSpec): (typeof GATED)['names'] {
  return (ungated ? UNGATED : GATED).names
}

/** What one unit is called in its layer's file; the last axis of x is that of `rank`. */
interface UnitPlace {
  /** `up`: rows of gate and then of up, or of up alone. */
  names: readonly [up: string, down: string]
  biases?: readonly [up: string, down: string]
  rank: 2 | 3
}

/** down(activation(gate(x)) * up(x)), gate and up being one product whose last axis is split; or down(activation(up(x))). */
export function unit(
  graph: GraphBuilder,
  { activation, limit, upPlusOne, ungated }: UnitSpec,
  { hiddenSize, ffnSize }: Sizes,
  weights: LayerWeights,
  x: string,
  { names: [upName, downName], biases, rank }: UnitPlace
): string {
  const bias = (i: 0 | 1) => (biases === undefined ? {} : { bias: biases[i] })
  const gateUp = weights.project(upName, hiddenSize, x, { rank, ...bias(0) })
  if (ungated) return weights.project(downName, ffnSize, activated(graph, activation, gateUp), { rank })
  let [gate, up] = [graph.name('gate'), graph.name('up')]
  const attributes = { axis: rank - 1, num_outputs: 2 }
  graph.node({ op: 'Split', domain: '', inputs: [gateUp], outputs: [gate, up], attributes })
  if (limit !== undefined) {
    const most = float32(graph, limit)
    gate = graph.onnx('Min', [gate, most])
    up = graph.onnx('Max', [graph.onnx('Min', [up, most]), float32(graph, -limit)])
  }
  if (upPlusOne) up = graph.onnx('Add', [up, float32(graph, 1)])
  const gated = graph.onnx('Mul', [activated(graph, activation, gate), up])
  return weights.project(downName, ffnSize, gated, { rank, ...bias(1) })
}

function activated(graph: GraphBuilder, activation: UnitSpec['activation'], x: string): string {
  if (activation === 'relu2') {
    const above = graph.onnx('Relu', [x])
    return graph.onnx('Mul', [above, above])
  }
  const { op, attributes } = ACTIVATIONS[activation]
  return graph.contrib(op, [x], attributes)
}
