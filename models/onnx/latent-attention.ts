import type { LatentSpec } from '../block-schema.ts'
import { blockOf, layerSizes, turningNumber } from '../blocks.ts'
import type { Block, ModelShape } from '../manifest.ts'
import { POSITIONS, pastName, presentName, rotaryName, SEQLENS_K, TOTAL_LENGTH } from './attention.ts'
import { float32, type GraphBuilder, int64, scalarInt64 } from './builder.ts'
import type { Attend, Lanes } from './lanes.ts'
import { normalise } from './norm.ts'
import type { LayerWeights } from './weights.ts'

/** TensorProto.DataType */
const INT64 = 7
/** Products go over a multiple of TOKENS_STEP cached tokens, LEAST_TOKENS or more: as the cache has room for (runtime/kv-cache.ts). */
const TOKENS_STEP = 64n
const LEAST_TOKENS = 128n
/** What is kept of a token is within it: further than any real one, and squares of it are numbers. */
const MAX_KEPT = 1e15

type LatentBlock = Block['attention'] & { latent: LatentSpec }

/** Values that attention of decoder layer `layer` makes of a token, before its output projection. */
export function attendedSize(shape: ModelShape, layer: number): number {
  const { heads, headSize } = layerSizes(shape, layer)
  return heads * (blockOf(shape, layer).attention.latent?.value ?? headSize)
}

/**
 * Self-attention over latent vectors (MLA of DeepSeek-V2's paper, section 2.1) without its output projection: normed (batch,
 * tokens, hidden) to (batch, tokens, heads * value). A token's row in the cache (batch, 1, capacity, size + rotated) is its
 * latent vector and the part of its key that is turned, which all heads share. Keys and values are never made of it: queries are
 * brought to the latent vectors by `key_up`, and what comes of the attention to values by `value_up`, head by head.
 *
 * Plain products: GroupQueryAttention reads the cache once a head, which for 20 heads of 576 took 4 times as long at 4,096 tokens.
 */
export function latentAttention(
  graph: GraphBuilder,
  lanes: Lanes,
  block: LatentBlock,
  shape: ModelShape,
  layer: number,
  weights: LayerWeights,
  normed: string
): string {
  const { heads, headSize } = layerSizes(shape, layer)
  const { size, unturned, value } = block.latent
  const rotated = headSize - size
  // Both dimensions in front, for what has been brought into rows.
  const front = graph.onnx('Shape', [normed], { start: 0, end: 2 })
  const inFront = (x: string, width: number) =>
    graph.onnx('Reshape', [x, graph.onnx('Concat', [front, int64(graph, [BigInt(width)])], { axis: 0 })])
  const turn = (x: string) => {
    const number = turningNumber(shape, layer)!
    const tables = [rotaryName('cos', number), rotaryName('sin', number)]
    return graph.contrib('RotaryEmbedding', [x, POSITIONS, ...tables], { interleaved: 0 })
  }

  const query = queries(graph, block, shape, weights, normed)
  const inHeads = graph.onnx('Reshape', [query, dims(graph, 0, 0, heads, unturned + rotated)])
  const [plain, turning] = split(graph, inHeads, [unturned, rotated], 3)
  const turned = turn(graph.onnx('Reshape', [turning, dims(graph, 0, 0, heads * rotated)]))
  const lifted = headByHead(
    graph,
    plain,
    [heads, unturned],
    weights.constant('key_up', [heads, unturned, size])
  )
  const rows = [lifted, graph.onnx('Reshape', [turned, dims(graph, -1, heads, rotated)])]
  const both = inFront(graph.onnx('Concat', rows, { axis: 2 }), heads * headSize)

  const down = weights.project('latent', shape.hiddenSize, normed)
  const [own, key] = split(graph, down, [size, rotated], 2)
  const latent = normalise(graph, shape, weights.constant('latent_norm'), own, 2)
  const kept = finite(graph, graph.onnx('Concat', [latent, turn(key)], { axis: 2 }))

  const attended = lanes.attention({
    packed: [both, kept, ''],
    width: heads * size,
    sizes: { kvHeads: 1, headSize },
    past: [pastName('key', layer)],
    present: [presentName('key', layer)],
    seqlens: SEQLENS_K,
    total: TOTAL_LENGTH,
    shared: [],
    attributes: {},
    attend: attend({ heads, headSize, size, scale: block.scale ?? 1 / Math.sqrt(headSize) })
  })
  const ofHeads = graph.onnx('Reshape', [attended, dims(graph, 0, 0, heads, size)])
  const valueUp = weights.constant('value_up', [heads, value, size])
  const values = headByHead(graph, ofHeads, [heads, size], valueUp, { transB: 1 })
  return inFront(values, heads * value)
}

/** Queries of all heads, (batch, tokens, heads * (unturned + rotated)). */
function queries(
  graph: GraphBuilder,
  { latent: { query } }: LatentBlock,
  shape: ModelShape,
  weights: LayerWeights,
  normed: string
): string {
  if (query === undefined) return weights.project('query', shape.hiddenSize, normed)
  const down = weights.project('query_down', shape.hiddenSize, normed)
  return weights.project('query', query, normalise(graph, shape, weights.constant('query_norm'), down, 2))
}

/**
 * x (batch, tokens, heads, width) multiplied with a matrix of each head: (batch * tokens, heads, columns).
 *
 * @param matrices (heads, width, columns), or (heads, columns, width) with `transB`
 */
function headByHead(
  graph: GraphBuilder,
  x: string,
  [heads, width]: readonly [heads: number, width: number],
  matrices: string,
  attributes: { transB?: number } = {}
): string {
  const rows = graph.onnx('Reshape', [x, dims(graph, -1, heads, width)])
  // (rows, heads, width) read as (heads, rows, width).
  const products = graph.contrib('FusedMatMul', [rows, matrices], { ...attributes, transBatchA: 1 })
  return graph.onnx('Transpose', [products], { perm: { ints: [1, 0, 2] } })
}

/**
 * x with zeros where it is no number, and within bounds. Products go over cached rows that do not count, too, of a slot's last
 * sequence or of tokens to come, and no number times nothing is no number; a row that is none draws no token all the same.
 */
function finite(graph: GraphBuilder, x: string): string {
  const numbers = graph.onnx('Where', [graph.onnx('IsNaN', [x]), float32(graph, 0), x])
  return graph.onnx('Min', [
    graph.onnx('Max', [numbers, float32(graph, -MAX_KEPT)]),
    float32(graph, MAX_KEPT)
  ])
}

/** What a lane computes: queries (batch, tokens, heads * headSize) and what is kept (batch, tokens, headSize). */
function attend(sizes: { heads: number; headSize: number; size: number; scale: number }): Attend {
  const { heads, headSize, size, scale } = sizes
  return (graph, [query = '', kept = ''], { past, presents, seqlens, total }) => {
    const [pastCache = '', present = ''] = [past[0], presents[0]]
    // Layers of a graph without lanes have all of this in common: they are given as many rows, and caches of one capacity.
    const common = (what: string, make: () => string) =>
      graph.common(`latent ${what} ${seqlens} ${total}`, make)
    const positions = common('positions', () => positionsOf(graph, kept, seqlens))
    const places = common('places', () => placesOf(graph, positions))
    const steps = common('steps', () => stepsOf(graph, total))
    const updates = graph.onnx('Unsqueeze', [kept, int64(graph, [1n])])
    graph.onnx('ScatterND', [pastCache, places, updates], {}, present)
    const seen = graph.onnx('Slice', [present, int64(graph, [0n]), steps, int64(graph, [2n])])
    const count = common('count', () => graph.onnx('Shape', [seen], { start: 2, end: 3 }))
    const mask = common('mask', () => maskOf(graph, positions, count))
    const cached = graph.onnx('Reshape', [seen, dims(graph, 0, -1, headSize)])
    const rows = graph.onnx('Reshape', [query, dims(graph, 0, -1, headSize)])
    const attributes = { transB: 1, alpha: { float: scale } }
    const products = graph.contrib('FusedMatMul', [rows, cached], attributes)
    // (batch, tokens, heads, count) plus (batch, tokens, 1, count).
    const wide = common(`rows of ${heads} heads`, () =>
      graph.onnx('Concat', [int64(graph, [0n, -1n, BigInt(heads)]), count], { axis: 0 })
    )
    const scores = graph.onnx('Add', [graph.onnx('Reshape', [products, wide]), mask])
    const shares = graph.onnx('Softmax', [scores], { axis: 3 })
    const flat = common('rows', () => graph.onnx('Concat', [int64(graph, [0n, -1n]), count], { axis: 0 }))
    const mixed = graph.onnx('MatMul', [graph.onnx('Reshape', [shares, flat]), cached])
    const ends = [int64(graph, [0n]), int64(graph, [BigInt(size)]), int64(graph, [2n])]
    return graph.onnx('Reshape', [graph.onnx('Slice', [mixed, ...ends]), dims(graph, 0, -1, heads * size)])
  }
}

/** Positions of the rows x (batch, tokens, ...), the last of which `seqlens` (batch) has: (batch, tokens). */
function positionsOf(graph: GraphBuilder, x: string, seqlens: string): string {
  const one = int64(graph, [1n])
  const tokens = graph.onnx('Shape', [x], { start: 1, end: 2 })
  const last = graph.onnx('Unsqueeze', [graph.onnx('Cast', [seqlens], { to: INT64 }), one])
  const first = graph.onnx('Add', [graph.onnx('Sub', [last, tokens]), one])
  return graph.onnx('Add', [first, counted(graph, tokens)])
}

/** Numbers from 0 to `count` (1), without it. */
function counted(graph: GraphBuilder, count: string): string {
  const [zero, one] = [scalarInt64(graph, 0n), scalarInt64(graph, 1n)]
  return graph.onnx('Range', [zero, graph.onnx('Squeeze', [count]), one])
}

/** Where rows at `positions` (batch, tokens) go in the cache (batch, 1, capacity, width): (batch, 1, tokens, 3). */
function placesOf(graph: GraphBuilder, positions: string): string {
  const nothing = graph.onnx('Sub', [positions, positions])
  const slots = counted(graph, graph.onnx('Shape', [positions], { start: 0, end: 1 }))
  const slot = graph.onnx('Add', [nothing, graph.onnx('Unsqueeze', [slots, int64(graph, [1n])])])
  const columns = [slot, nothing, positions].map(numbers =>
    graph.onnx('Unsqueeze', [numbers, int64(graph, [1n, 3n])])
  )
  return graph.onnx('Concat', columns, { axis: 3 })
}

/** So many cached tokens as products go over where the longest sequence has `total` (): (1). */
function stepsOf(graph: GraphBuilder, total: string): string {
  const step = int64(graph, [TOKENS_STEP])
  const tokens = graph.onnx('Cast', [total], { to: INT64 })
  const steps = graph.onnx('Div', [graph.onnx('Add', [tokens, int64(graph, [TOKENS_STEP - 1n])]), step])
  return graph.onnx('Max', [graph.onnx('Mul', [steps, step]), int64(graph, [LEAST_TOKENS])])
}

/** 0 for tokens that a row at one of `positions` (batch, tokens) attends to, of `count` (1) cached ones: (batch, tokens, 1, count). */
function maskOf(graph: GraphBuilder, positions: string, count: string): string {
  const column = graph.onnx('Unsqueeze', [positions, int64(graph, [2n, 3n])])
  const isSeen = graph.onnx('LessOrEqual', [counted(graph, count), column])
  return graph.onnx('Where', [isSeen, float32(graph, 0), float32(graph, Number.NEGATIVE_INFINITY)])
}

function split(
  graph: GraphBuilder,
  x: string,
  sizes: readonly [number, number],
  axis: number
): [string, string] {
  const parts: [string, string] = [graph.name('part'), graph.name('part')]
  graph.node({
    op: 'Split',
    domain: '',
    inputs: [x, dims(graph, ...sizes)],
    outputs: parts,
    attributes: { axis }
  })
  return parts
}

/** A shape: 0 keeps a dimension as it is, -1 is what is left. */
function dims(graph: GraphBuilder, ...sizes: number[]): string {
  return int64(graph, sizes.map(BigInt))
}
