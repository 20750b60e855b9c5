import { blockOf } from '../blocks.ts'
import type { ModelShape } from '../manifest.ts'
import { recurrenceSizes, type StateTensor, stateTensors } from '../recurrence.ts'
import type { GatedDeltaSpec, Recurrence, StateSpaceSpec } from '../recurrence-schema.ts'
import { type GraphBuilder, int64, ones } from './builder.ts'
import { type LaneMemory, type LaneMixer, type LaneNames, type Lanes, ofLane } from './lanes.ts'
import type { LayerWeights } from './weights.ts'

export const pastStateName = (part: StateTensor['part'], layer: number) => `past_${part}_${layer}`
export const presentStateName = (part: StateTensor['part'], layer: number) => `present_${part}_${layer}`

/** What is added to the squares of a query or key before it is brought to length 1 (transformers' `l2norm`). */
const LENGTH_EPSILON = 1e-6

/**
 * What a layer's recurrence makes of normed (batch, tokens, hidden), without its output projection: (batch, tokens, width).
 * The layer's state goes in as past and out as present, which may be the same memory.
 */
export function recurrence(
  graph: GraphBuilder,
  lanes: Lanes,
  shape: ModelShape,
  layer: number,
  weights: LayerWeights,
  normed: string
): string {
  const { recurrence: spec } = blockOf(shape, layer)
  if (spec === undefined) throw new Error(`layer ${layer} has no recurrence`)
  const place = { graph, lanes, shape, layer, weights }
  const inputs = weights.project('recurrence_in', shape.hiddenSize, normed)
  switch (spec.kind) {
    case 'gated-delta':
      return gatedDelta(place, spec, inputs, rates(place, normed))
    case 'short-convolution':
      return shortConvolution(place, spec, inputs)
    case 'state-space':
      return stateSpace(place, spec, inputs, rates(place, normed))
  }
}

interface Place {
  graph: GraphBuilder
  lanes: Lanes
  shape: ModelShape
  layer: number
  weights: LayerWeights
}

function rates({ shape, weights }: Place, normed: string): string {
  return weights.project('rates', shape.hiddenSize, normed)
}

function gatedDelta(place: Place, spec: GatedDeltaSpec, inputs: string, both: string): string {
  const { graph, lanes, shape, weights } = place
  const { channels, width } = recurrenceSizes(spec, shape.hiddenSize)
  const { valueHeads, valueSize } = spec
  const [mixed, gate] = split(graph, inputs, [channels, width])
  const [weight, rate] = split(graph, both, [valueHeads, valueHeads])
  const decay = graph.onnx('Mul', [step(graph, weights, rate), weights.constant('decay')])
  const read = lanes.mix(new DeltaMixer(place, spec, [mixed, decay, graph.onnx('Sigmoid', [weight])]))
  // A norm over each head: (batch, tokens, heads, size), 0 keeps a dimension as it is.
  const heads = graph.onnx('Reshape', [read, int64(graph, [0n, 0n, BigInt(valueHeads), BigInt(valueSize)])])
  const normed = rmsNorm(graph, heads, weights.constant('recurrence_norm'), shape.normEpsilon, 3)
  return graph.onnx('Mul', [flattened(graph, normed, width), silu(graph, gate)])
}

function shortConvolution(place: Place, spec: Recurrence, inputs: string): string {
  const { graph, lanes, shape } = place
  const { hiddenSize } = shape
  const [within, without, x] = split(graph, inputs, [hiddenSize, hiddenSize, hiddenSize])
  const convolved = lanes.mix(new ConvolutionMixer(place, spec, [graph.onnx('Mul', [within, x])]))
  return graph.onnx('Mul', [without, convolved])
}

function stateSpace(place: Place, spec: StateSpaceSpec, inputs: string, rate: string): string {
  const { graph, lanes, shape, weights } = place
  const { channels, width } = recurrenceSizes(spec, shape.hiddenSize)
  const [gate, mixed] = split(graph, inputs, [width, channels])
  const steps = step(graph, weights, rate)
  const decay = graph.onnx('Mul', [steps, weights.constant('decay')])
  const read = lanes.mix(new StateSpaceMixer(place, spec, [mixed, decay, steps]))
  const gated = graph.onnx('Mul', [read, silu(graph, gate)])
  const { groups, groupNorm } = spec
  if (!groupNorm) return rmsNorm(graph, gated, weights.constant('recurrence_norm'), shape.normEpsilon, 2)
  // The operator has one group's weights for all of them, so each one's own come behind it: (batch, tokens, groups, size).
  const size = width / groups
  const dims = int64(graph, [0n, 0n, BigInt(groups), BigInt(size)])
  const normed = rmsNorm(graph, graph.onnx('Reshape', [gated, dims]), ones(graph, size), shape.normEpsilon, 3)
  return graph.onnx('Mul', [flattened(graph, normed, width), weights.constant('recurrence_norm')])
}

/** log(1 + exp(rate + bias)): how long a token lets the state forget. */
function step(graph: GraphBuilder, weights: LayerWeights, rate: string): string {
  return graph.onnx('Softplus', [graph.onnx('Add', [rate, weights.constant('rate_bias')])])
}

/** What convolves its first input, and hands on what comes out. */
class ConvolutionMixer implements LaneMixer {
  readonly packed: readonly string[]
  readonly width: number
  readonly memories: readonly LaneMemory[]
  protected readonly activation: 'none' | 'silu' = 'none'
  readonly #kernel: string
  readonly #bias: string

  constructor({ shape, layer, weights }: Place, spec: Recurrence, packed: readonly string[]) {
    const { channels, width } = recurrenceSizes(spec, shape.hiddenSize)
    this.packed = packed
    this.width = width
    this.memories = stateTensors(shape, layer).map(({ part, dims }) => ({
      past: pastStateName(part, layer),
      present: presentStateName(part, layer),
      dims: lane => [ofLane('sequences', lane), ...dims],
      none: [0, ...dims]
    }))
    this.#kernel = weights.constant('convolution', [channels, 1, spec.taps])
    this.#bias = spec.kind === 'state-space' && spec.bias ? weights.constant('convolution_bias') : ''
  }

  compute(graph: GraphBuilder, _lane: number, { packed, past, present }: LaneNames): string {
    return this.convolve(graph, packed[0]!, past[0]!, present[0]!)
  }

  protected convolve(graph: GraphBuilder, x: string, past: string, present: string): string {
    const output = graph.name('convolved')
    graph.node({
      op: 'CausalConvWithState',
      domain: 'com.microsoft',
      inputs: [x, this.#kernel, this.#bias, past],
      outputs: [output, present],
      attributes: { activation: { text: this.activation }, ndim: 1, channels_last: 1 }
    })
    return output
  }
}

/** Inputs: what is convolved into queries, keys and values; the logarithm of what each head keeps; what a token weighs. */
class DeltaMixer extends ConvolutionMixer {
  protected override readonly activation = 'silu'
  readonly #spec: GatedDeltaSpec

  constructor(place: Place, spec: GatedDeltaSpec, packed: readonly string[]) {
    super(place, spec, packed)
    this.#spec = spec
  }

  override compute(graph: GraphBuilder, _lane: number, { packed, past, present }: LaneNames): string {
    const { keyHeads, valueHeads, keySize, valueSize, keysByTurns } = this.#spec
    const [mixed = '', decay = '', weight = ''] = packed
    const convolved = this.convolve(graph, mixed, past[0]!, present[0]!)
    const keys = keyHeads * keySize
    const [query, key, value] = split(graph, convolved, [keys, keys, valueHeads * valueSize])
    const heads = { heads: keyHeads, to: valueHeads, size: keySize, byTurns: keysByTurns === true }
    const [queries, ofKeys] = [query, key].map(x => repeated(graph, unit(graph, x, heads), heads))
    const output = graph.name('read')
    graph.node({
      op: 'LinearAttention',
      domain: 'com.microsoft',
      inputs: [queries!, ofKeys!, value, past[1]!, decay, weight],
      outputs: [output, present[1]!],
      attributes: {
        update_rule: { text: 'gated_delta' },
        q_num_heads: valueHeads,
        kv_num_heads: valueHeads,
        scale: { float: 1 / Math.sqrt(keySize) }
      }
    })
    return output
  }
}

/** Inputs: what is convolved into inputs, and the vectors that they go in and come out by; what each head keeps; its steps. */
class StateSpaceMixer extends ConvolutionMixer {
  protected override readonly activation = 'silu'
  readonly #spec: StateSpaceSpec
  readonly #skip: string

  constructor(place: Place, spec: StateSpaceSpec, packed: readonly string[]) {
    super(place, spec, packed)
    this.#spec = spec
    // (heads, 1), to be multiplied with the values of each head.
    this.#skip = place.weights.constant('skip', [spec.heads, 1])
  }

  override compute(graph: GraphBuilder, _lane: number, { packed, past, present }: LaneNames): string {
    const { heads, headSize, groups, stateSize } = this.#spec
    const [mixed = '', decay = '', steps = ''] = packed
    const convolved = this.convolve(graph, mixed, past[0]!, present[0]!)
    const vectors = groups * stateSize
    const [x, within, without] = split(graph, convolved, [this.width, vectors, vectors])
    const all = { heads: groups, to: heads, size: stateSize, byTurns: false }
    const [key, query] = [within, without].map(each => repeated(graph, ofHeads(graph, each, all), all))
    const own = graph.onnx('Reshape', [x, int64(graph, [0n, 0n, BigInt(heads), BigInt(headSize)])])
    const each = graph.onnx('Unsqueeze', [steps, int64(graph, [3n])])
    const value = flattened(graph, graph.onnx('Mul', [own, each]), this.width)
    const output = graph.name('read')
    graph.node({
      op: 'LinearAttention',
      domain: 'com.microsoft',
      inputs: [query!, key!, value, past[1]!, decay],
      outputs: [output, present[1]!],
      attributes: {
        update_rule: { text: 'gated' },
        q_num_heads: heads,
        kv_num_heads: heads,
        scale: { float: 1 }
      }
    })
    const skipped = flattened(graph, graph.onnx('Mul', [own, this.#skip]), this.width)
    return graph.onnx('Add', [output, skipped])
  }
}

/** Heads of a vector, and how many there are to be. */
interface Heads {
  heads: number
  to: number
  size: number
  /** The first ones again behind the last; else each one as often behind itself. */
  byTurns: boolean
}

/** (batch, tokens, heads * size) to (batch, tokens, heads, size). */
function ofHeads(graph: GraphBuilder, x: string, { heads, size }: Heads): string {
  return graph.onnx('Reshape', [x, int64(graph, [0n, 0n, BigInt(heads), BigInt(size)])])
}

/** Each head of (batch, tokens, heads * size) at length 1: (batch, tokens, heads, size). */
function unit(graph: GraphBuilder, x: string, heads: Heads): string {
  const { size } = heads
  // x / sqrt(sum of squares + e) is x / sqrt(mean of squares + e / size) / sqrt(size).
  const scale = new Uint8Array(new Float32Array(size).fill(1 / Math.sqrt(size)).buffer)
  const weight = graph.constant(graph.name('unit'), 'float32', [size], scale)
  return rmsNorm(graph, ofHeads(graph, x, heads), weight, LENGTH_EPSILON / size, 3)
}

/**
 * (batch, tokens, heads, size) to (batch, tokens, to * size): LinearAttention of ONNX Runtime 1.30 is several times slower with
 * fewer keys than values.
 */
function repeated(graph: GraphBuilder, x: string, { heads, to, size, byTurns }: Heads): string {
  const times = BigInt(to / heads)
  if (times === 1n) return flattened(graph, x, to * size)
  const axis = byTurns ? 2n : 3n
  const apart = graph.onnx('Unsqueeze', [x, int64(graph, [axis])])
  const counts = byTurns ? [1n, 1n, times, 1n, 1n] : [1n, 1n, 1n, times, 1n]
  return flattened(graph, graph.onnx('Tile', [apart, int64(graph, counts)]), to * size)
}

/** (batch, tokens, ...) to (batch, tokens, width). */
function flattened(graph: GraphBuilder, x: string, width: number): string {
  return graph.onnx('Reshape', [x, int64(graph, [0n, 0n, BigInt(width)])])
}

function rmsNorm(graph: GraphBuilder, x: string, weight: string, epsilon: number, axis: number): string {
  return graph.onnx('SimplifiedLayerNormalization', [x, weight], { axis, epsilon: { float: epsilon } })
}

/** x sigmoid(x) */
function silu(graph: GraphBuilder, x: string): string {
  return graph.contrib('QuickGelu', [x], { alpha: { float: 1 } })
}

function split<const S extends readonly number[]>(
  graph: GraphBuilder,
  x: string,
  sizes: S
): { [K in keyof S]: string } {
  const outputs = sizes.map(() => graph.name('part'))
  graph.node({
    op: 'Split',
    domain: '',
    inputs: [x, int64(graph, sizes.map(BigInt))],
    outputs,
    attributes: { axis: 2 }
  })
  return outputs as { [K in keyof S]: string }
}
