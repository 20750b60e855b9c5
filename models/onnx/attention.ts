import { blockOf, layerSizes, type Turning, turningNumber, turnings } from '../blocks.ts'
import type { Block, ModelShape } from '../manifest.ts'
import { attends } from '../recurrence.ts'
import { type GraphBuilder, int64, ones } from './builder.ts'
import { groupOf } from './grouped-attention.ts'
import type { Lanes } from './lanes.ts'
import { normalise } from './norm.ts'
import { grownQuery } from './query-growth.ts'
import type { LayerWeights } from './weights.ts'

/** Names of the graph inputs that every decoder layer shares. */
export const SEQLENS_K = 'seqlens_k'
export const TOTAL_LENGTH = 'total_length'
export const POSITIONS = 'positions'

/** What layers with a window are told instead of both: counted from the first token that their caches still have. */
export const seqlensName = (window: number | undefined) =>
  window === undefined ? SEQLENS_K : `${SEQLENS_K}_${window}`
export const totalName = (window: number | undefined) =>
  window === undefined ? TOTAL_LENGTH : `${TOTAL_LENGTH}_${window}`

/** The different windows of some decoder layers; undefined stands for none. */
export function windowsIn(shape: ModelShape, layers: readonly number[]): (number | undefined)[] {
  return [...new Set(layers.map(layer => blockOf(shape, layer).attention.window))]
}

export const pastName = (part: 'key' | 'value', layer: number) => `past_${part}_${layer}`
export const presentName = (part: 'key' | 'value', layer: number) => `present_${part}_${layer}`
/** Cosines and sines of a turning (models/blocks.ts) by its number: the model's own is `cos`, others are `cos_1` and on. */
export const rotaryName = (part: 'cos' | 'sin', number: number) => (number === 0 ? part : `${part}_${number}`)

/**
 * GroupQueryAttention turns only heads of a multiple of 16, and as many of their values; others go through the
 * RotaryEmbedding operator. So do those of layers with a window, whose caches lose their first tokens: the operator would
 * turn by places in the cache; and those that are normalised once they are turned.
 */
export function rotatesInside(
  { headSize }: Pick<ModelShape, 'headSize'>,
  { rotated }: Turning,
  { window, queryKeyNorm }: Pick<Block['attention'], 'window' | 'queryKeyNorm'>
): boolean {
  const isLast = window === undefined && queryKeyNorm !== 'head-turned'
  return isLast && headSize % 16 === 0 && rotated % 16 === 0
}

/** The turnings whose tables the graph of some decoder layers takes: the model's own in any case, and those in use. */
export function usedTurnings(
  shape: ModelShape,
  layers: readonly number[]
): { number: number; turning: Turning }[] {
  const used = new Set([0, ...layers.map(layer => turningNumber(shape, layer))])
  return turnings(shape).flatMap((turning, number) => (used.has(number) ? [{ number, turning }] : []))
}

/** Whether the graph of some decoder layers takes the tokens' positions. */
export function takesPositions(shape: ModelShape, layers: readonly number[]): boolean {
  return layers.some(layer => {
    if (!attends(shape, layer)) return false
    const number = turningNumber(shape, layer)
    const own = blockOf(shape, layer).attention
    if (own.queryGrowth !== undefined || own.latent !== undefined) return true
    return number !== undefined && !rotatesInside(layerSizes(shape, layer), turnings(shape)[number]!, own)
  })
}

/**
 * Self-attention of one layer without its output projection: normed (batch, tokens, hidden) to (batch, tokens,
 * heads * headSize). The layer's cache (batch, kvHeads, capacity, headSize) goes in as past and out as present.
 */
export function attention(
  graph: GraphBuilder,
  lanes: Lanes,
  block: Block['attention'],
  shape: ModelShape,
  layer: number,
  weights: LayerWeights,
  normed: string
): string {
  const { heads, kvHeads, headSize } = layerSizes(shape, layer)
  const bias = block.bias === 'none' ? {} : { bias: 'qkv_bias' }
  const qkv = weights.project('qkv', shape.hiddenSize, normed, bias)
  const number = turningNumber(shape, layer)
  const inside = number !== undefined && rotatesInside({ headSize }, turnings(shape)[number]!, block)
  const outside = number !== undefined && !inside
  const apart = outside || isPrepared(block)
  const gate = block.outputGate
    ? graph.onnx('Sigmoid', [weights.project('attention_gate', shape.hiddenSize, normed)])
    : undefined
  const tables = inside ? ([rotaryName('cos', number), rotaryName('sin', number)] as const) : undefined
  const packed = apart ? separate(graph, block, shape, layer, weights, qkv) : ([qkv, '', ''] as const)
  const attended = lanes.attention({
    packed,
    width: heads * headSize,
    sizes: { kvHeads, headSize },
    past: [pastName('key', layer), pastName('value', layer)],
    present: [presentName('key', layer), presentName('value', layer)],
    seqlens: seqlensName(block.window),
    total: totalName(block.window),
    shared: [
      ...(tables ?? []),
      // Behind both tables stand positions and a bias of scores.
      ...(block.sinks ? [...(inside ? [] : ['', '']), '', '', weights.constant('sinks')] : [])
    ],
    ...(lanes.groupsHeads &&
      groupOf(shape, layer) > 1 && {
        grouped: {
          heads,
          kvHeads,
          headSize,
          scale: block.scale ?? 1 / Math.sqrt(headSize),
          turning: tables === undefined ? undefined : { tables, rotated: turnings(shape)[number!]!.rotated }
        }
      }),
    attributes: {
      num_heads: heads,
      kv_num_heads: kvHeads,
      do_rotary: inside ? 1 : 0,
      rotary_interleaved: 0,
      scale: { float: block.scale ?? 1 / Math.sqrt(headSize) },
      ...(block.window !== undefined && { local_window_size: block.window }),
      ...(block.softcap !== undefined && { softcap: { float: block.softcap } })
    }
  })
  return gate === undefined ? attended : graph.onnx('Mul', [attended, gate])
}

/** Whether q, k or v is changed before it is turned, or q and k behind that. */
export function isPrepared({ queryKeyNorm, queryGrowth, valueNorm }: Block['attention']): boolean {
  return queryKeyNorm !== 'none' || queryGrowth !== undefined || valueNorm === true
}

/** Splits qkv (batch, tokens, (heads + 2 kvHeads) * headSize) and does what GroupQueryAttention cannot do inside. */
function separate(
  graph: GraphBuilder,
  { queryKeyNorm, queryGrowth, valueNorm }: Block['attention'],
  shape: ModelShape,
  layer: number,
  weights: LayerWeights,
  qkv: string
): [query: string, key: string, value: string] {
  const { heads, kvHeads, headSize } = layerSizes(shape, layer)
  const sizes = [heads, kvHeads, kvHeads].map(n => BigInt(n * headSize))
  const parts = ['query', 'key', 'value'].map(part => graph.name(part))
  graph.node({
    op: 'Split',
    domain: '',
    inputs: [qkv, int64(graph, sizes)],
    outputs: parts,
    attributes: { axis: 2 }
  })
  const normaliseHeads = (x: string, count: number, weight: string): string => {
    // (batch, tokens, count, headSize), 0 keeps a dimension as it is.
    const split = graph.onnx('Reshape', [x, int64(graph, [0n, 0n, BigInt(count), BigInt(headSize)])])
    const normed = normalise(graph, shape, weight, split, 3)
    return graph.onnx('Reshape', [normed, int64(graph, [0n, 0n, BigInt(count * headSize)])])
  }
  const prepare = (x: string, count: number, norm: string): string => {
    let y = x
    if (queryKeyNorm === 'all') y = normalise(graph, shape, weights.constant(norm), y, 2)
    else if (queryKeyNorm === 'head') y = normaliseHeads(x, count, weights.constant(norm))
    const turned = turn(graph, shape, layer, y, count)
    return queryKeyNorm === 'head-turned' ? normaliseHeads(turned, count, weights.constant(norm)) : turned
  }
  const [query = '', key = '', value = ''] = parts
  const [turned, turnedKey] = [prepare(query, heads, 'q_norm'), prepare(key, kvHeads, 'k_norm')]
  return [
    queryGrowth === undefined ? turned : grownQuery(graph, queryGrowth, POSITIONS, turned),
    turnedKey,
    valueNorm ? normaliseHeads(value, kvHeads, ones(graph, headSize)) : value
  ]
}

/** x (batch, tokens, count * headSize), turned where GroupQueryAttention does not do it. */
function turn(graph: GraphBuilder, shape: ModelShape, layer: number, x: string, count: number): string {
  const { headSize } = layerSizes(shape, layer)
  const number = turningNumber(shape, layer)
  if (number === undefined) return x
  const turning = turnings(shape)[number]!
  if (rotatesInside({ headSize }, turning, blockOf(shape, layer).attention)) return x
  const { rotated } = turning
  const tables = [rotaryName('cos', number), rotaryName('sin', number)]
  const part = rotated === headSize ? {} : { num_heads: count, rotary_embedding_dim: rotated }
  return graph.contrib('RotaryEmbedding', [x, POSITIONS, ...tables], { interleaved: 0, ...part })
}
