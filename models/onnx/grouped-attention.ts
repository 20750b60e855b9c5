import { blockOf, layerSizes } from '../blocks.ts'
import type { Block, ModelShape } from '../manifest.ts'
import { attends } from '../recurrence.ts'
import { float32, type GraphBuilder, int64, scalarInt64 } from './builder.ts'

/**
 * Rows of a lane that are computed with query heads as rows, int32 (): 0 where each query head is computed by itself. So many rows
 * are in the lane then, of one sequence, and its cache has room for `groupedTokens`.
 */
export const GROUPED_ROWS = 'grouped_rows'

/** TensorProto.DataType */
const INT32 = 6
const INT64 = 7
const BOOL = 9
/** What the scores of tokens that a row does not see are lowered by: as GroupQueryAttention has it, so that sums are the same. */
const UNSEEN = -3.4028234663852886e38

/** Query heads that share a head of keys and values of decoder layer `layer`; 1 where they are not computed as rows of one. */
export function groupOf(shape: ModelShape, layer: number): number {
  return attends(shape, layer) && isPlain(blockOf(shape, layer).attention) ? groupSize(shape, layer) : 1
}

/** The largest group of some decoder layers. */
export function largestGroup(shape: ModelShape, layers: readonly number[]): number {
  return Math.max(1, ...layers.map(layer => groupOf(shape, layer)))
}

/** Tokens of a cache that are read or written where so many rows behind `position` are computed with query heads as rows. */
export function groupedTokens(group: number, position: number, rows: number): number {
  return position + group * rows
}

function groupSize(shape: ModelShape, layer: number): number {
  const { heads, kvHeads } = layerSizes(shape, layer)
  return heads / kvHeads
}

/** GroupQueryAttention takes another way where there are sinks or a cap, and a window's cache has no room to spare. */
function isPlain({ latent, sinks, softcap, window }: Block['attention']): boolean {
  return latent === undefined && !sinks && softcap === undefined && window === undefined
}

/** What the layers of a lane with groups of one size share: names of what a graph has once. */
export interface GroupedLane {
  /** Whether query heads are rows, bool (). */
  isGrouped: string
  /** Positions of the rows, int64 (1, rows). */
  positions: string
  /** How rows of nobody are put behind keys and values, int64 (6). */
  pads: string
  /** Tokens in the cache after the run with these, less one, int32 (1); and all of them, int32 (). */
  seqlens: string
  total: string
  /** 0 for what a row sees, (1, 1, group * rows, tokens). */
  bias: string
}

/**
 * What the layers of a lane with groups of one size share.
 *
 * @param group query heads that share a head of keys and values
 * @param inputs of the lane: GROUPED_ROWS, and the lengths as GroupQueryAttention takes them
 */
export function groupedLane(
  graph: GraphBuilder,
  group: number,
  { rows: rows32, seqlens, total }: { rows: string; seqlens: string; total: string }
): GroupedLane {
  const zero = scalarInt64(graph, 0n)
  const one = scalarInt64(graph, 1n)
  const rows = graph.onnx('Cast', [rows32], { to: INT64 })
  const tokens = graph.onnx('Cast', [total], { to: INT64 })
  const spare = graph.onnx('Mul', [rows, scalarInt64(graph, BigInt(group - 1))])
  const spare32 = graph.onnx('Cast', [spare], { to: INT32 })
  const first = graph.onnx('Sub', [tokens, rows])
  const positions = graph.onnx('Range', [first, tokens, one])
  // Rows are in the order of their tokens, those of a token's heads one behind the other.
  const numbers = graph.onnx('Range', [zero, graph.onnx('Add', [rows, spare]), one])
  const tokenOf = graph.onnx('Div', [numbers, scalarInt64(graph, BigInt(group))])
  const column = graph.onnx('Unsqueeze', [tokenOf, int64(graph, [0n, 1n, 3n])])
  const isSeen = graph.onnx('LessOrEqual', [numbers, column])
  // The choice is made for the run's own tokens: for all that are cached it would take the bias' memory three times.
  const ofRun = graph.onnx('Where', [isSeen, float32(graph, 0), float32(graph, UNSEEN)])
  const padsOf = (before: bigint[], count: string, behind: bigint[]) => {
    const parts = [int64(graph, before), graph.onnx('Unsqueeze', [count, int64(graph, [0n])])]
    return graph.onnx('Concat', [...parts, int64(graph, behind)], { axis: 0 })
  }
  return {
    isGrouped: graph.onnx('Cast', [rows32], { to: BOOL }),
    positions: graph.onnx('Unsqueeze', [positions, int64(graph, [0n])]),
    pads: padsOf([0n, 0n, 0n, 0n], spare, [0n]),
    seqlens: graph.onnx('Add', [seqlens, spare32]),
    total: graph.onnx('Add', [total, spare32]),
    // Every row sees what was there before the run.
    bias: graph.onnx('Pad', [ofRun, padsOf([0n, 0n, 0n], first, [0n, 0n, 0n, 0n])])
  }
}

/** What a layer's attention is by: its sizes, and how packed or turned its rows come. */
export interface GroupedLayer {
  heads: number
  kvHeads: number
  headSize: number
  scale: number
  /** Where queries and keys are still to be turned: by which tables, and how much of a head. */
  turning: { tables: readonly [cos: string, sin: string]; rotated: number } | undefined
}

/**
 * GroupQueryAttention with the query heads of a group as rows of one head, of which the cache is read once, and not once a head:
 * (1, rows, heads * headSize). The operator lets row i see i tokens more than row 0: keys and values get as many rows of zeros
 * behind them, and a bias hides them. In it a row comes out with the same bits as among several rows of its own head.
 *
 * @param packed queries, keys and values, (1, rows, width) each; all three in the first where the others are ''
 */
export function groupedAttention(
  graph: GraphBuilder,
  packed: readonly string[],
  layer: GroupedLayer,
  lane: GroupedLane,
  { past, presents }: { past: readonly string[]; presents: readonly string[] }
): string {
  const { heads, kvHeads, headSize, scale } = layer
  const group = heads / kvHeads
  const [query = '', key = '', value = ''] = packed[1] === '' ? apart(graph, packed[0]!, layer) : packed
  const swapped = (x: string) => graph.onnx('Transpose', [x], { perm: { ints: [0, 1, 3, 2, 4] } })
  const turnedQuery = turned(graph, query, heads, layer, lane)
  const inGroups = graph.onnx('Reshape', [turnedQuery, dims(graph, 0, -1, kvHeads, group, headSize)])
  const rows = graph.onnx('Reshape', [swapped(inGroups), dims(graph, 0, -1, kvHeads * headSize)])
  const padded = [turned(graph, key, kvHeads, layer, lane), value].map(x => graph.onnx('Pad', [x, lane.pads]))
  const output = graph.name('attention')
  graph.node({
    op: 'GroupQueryAttention',
    domain: 'com.microsoft',
    inputs: [rows, ...padded, ...past, lane.seqlens, lane.total, '', '', '', lane.bias],
    outputs: [output, ...presents],
    attributes: { num_heads: kvHeads, kv_num_heads: kvHeads, do_rotary: 0, scale: { float: scale } }
  })
  const back = swapped(graph.onnx('Reshape', [output, dims(graph, 0, -1, group, kvHeads, headSize)]))
  return graph.onnx('Reshape', [back, dims(graph, 0, -1, heads * headSize)])
}

/** qkv (1, rows, (heads + 2 kvHeads) * headSize) as queries, keys and values. */
function apart(graph: GraphBuilder, qkv: string, { heads, kvHeads, headSize }: GroupedLayer): string[] {
  const sizes = [heads, kvHeads, kvHeads].map(n => n * headSize)
  const outputs = ['query', 'key', 'value'].map(part => graph.name(part))
  const inputs = [qkv, dims(graph, ...sizes)]
  graph.node({ op: 'Split', domain: '', inputs, outputs, attributes: { axis: 2 } })
  return outputs
}

/** x (1, rows, count * headSize), turned where the operator would have done it. */
function turned(
  graph: GraphBuilder,
  x: string,
  count: number,
  { headSize, turning }: GroupedLayer,
  { positions }: GroupedLane
): string {
  if (turning === undefined) return x
  const { tables, rotated } = turning
  const part = rotated === headSize ? {} : { num_heads: count, rotary_embedding_dim: rotated }
  return graph.contrib('RotaryEmbedding', [x, positions, ...tables], { interleaved: 0, ...part })
}

/** A shape: 0 keeps a dimension as it is, -1 is what is left. */
function dims(graph: GraphBuilder, ...sizes: number[]): string {
  return int64(graph, sizes.map(BigInt))
}
