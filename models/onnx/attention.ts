import type { Block, ModelShape } from '../manifest.ts'
import { type GraphBuilder, int64 } from './builder.ts'
import type { Lanes } from './lanes.ts'
import { normalise } from './norm.ts'
import type { LayerWeights } from './weights.ts'

/** Names of the graph inputs that every decoder layer shares. */
export const SEQLENS_K = 'seqlens_k'
export const TOTAL_LENGTH = 'total_length'
export const COS = 'cos'
export const SIN = 'sin'
export const POSITIONS = 'positions'

export const pastName = (part: 'key' | 'value', layer: number) => `past_${part}_${layer}`
export const presentName = (part: 'key' | 'value', layer: number) => `present_${part}_${layer}`

/** GroupQueryAttention turns only heads of a multiple of 16; others go through the RotaryEmbedding operator. */
export function rotatesInside(shape: ModelShape): boolean {
  return shape.headSize % 16 === 0
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
  const { heads, kvHeads, headSize, hiddenSize } = shape
  const bias = block.bias === 'qkv' ? { bias: 'qkv_bias' } : {}
  const qkv = weights.project('qkv', hiddenSize, normed, bias)
  const rotates = block.rotary !== 'none'
  const inside = rotates && rotatesInside(shape)
  const outside = rotates && !inside
  const [query, key, value] =
    outside || block.queryKeyNorm !== 'none' ? separate(graph, block, shape, weights, qkv) : [qkv, '', '']
  return lanes.attention({
    packed: [query, key, value],
    width: heads * headSize,
    past: [pastName('key', layer), pastName('value', layer)],
    present: [presentName('key', layer), presentName('value', layer)],
    seqlens: SEQLENS_K,
    total: TOTAL_LENGTH,
    shared: inside ? [COS, SIN] : [],
    attributes: {
      num_heads: heads,
      kv_num_heads: kvHeads,
      do_rotary: inside ? 1 : 0,
      rotary_interleaved: 0,
      scale: { float: 1 / Math.sqrt(headSize) }
    }
  })
}

/** Splits qkv (batch, tokens, (heads + 2 kvHeads) * headSize) and does what GroupQueryAttention cannot do inside. */
function separate(
  graph: GraphBuilder,
  { queryKeyNorm, rotary }: Block['attention'],
  shape: ModelShape,
  weights: LayerWeights,
  qkv: string
): [query: string, key: string, value: string] {
  const { heads, kvHeads, headSize } = shape
  const sizes = [heads, kvHeads, kvHeads].map(n => BigInt(n * headSize))
  const parts = ['query', 'key', 'value'].map(part => graph.name(part))
  graph.node({
    op: 'Split',
    domain: '',
    inputs: [qkv, int64(graph, sizes)],
    outputs: parts,
    attributes: { axis: 2 }
  })
  const prepare = (x: string, count: number, norm: string): string => {
    let y = x
    if (queryKeyNorm === 'all') y = normalise(graph, shape, weights.constant(norm), y, 2)
    else if (queryKeyNorm === 'head') {
      // A norm over each head: (batch, tokens, count, headSize), 0 keeps a dimension as it is.
      const split = graph.onnx('Reshape', [y, int64(graph, [0n, 0n, BigInt(count), BigInt(headSize)])])
      const normed = normalise(graph, shape, weights.constant(norm), split, 3)
      y = graph.onnx('Reshape', [normed, int64(graph, [0n, 0n, BigInt(count * headSize)])])
    }
    if (rotary === 'none' || rotatesInside(shape)) return y
    return graph.contrib('RotaryEmbedding', [y, POSITIONS, COS, SIN], { interleaved: 0 })
  }
  const [query = '', key = '', value = ''] = parts
  return [prepare(query, heads, 'q_norm'), prepare(key, kvHeads, 'k_norm'), value]
}
