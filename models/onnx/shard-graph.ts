import { mixesTokens } from '../block-schema.ts'
import { blockOf, layerSizes } from '../blocks.ts'
import { type LayerRange, layerKind, layersOf } from '../layers.ts'
import type { Manifest, ModelShape } from '../manifest.ts'
import { attends, recurrenceSizes } from '../recurrence.ts'
import {
  attention,
  POSITIONS,
  rotaryName,
  seqlensName,
  takesPositions,
  totalName,
  usedTurnings,
  windowsIn
} from './attention.ts'
import { float32, GraphBuilder, int64 } from './builder.ts'
import { expertsBeside } from './experts-beside.ts'
import { feedForward } from './feed-forward.ts'
import { Lanes, ofLane } from './lanes.ts'
import { attendedSize, latentAttention } from './latent-attention.ts'
import type { Graph } from './model.ts'
import { normalise, normaliseSum } from './norm.ts'
import { recurrence } from './recurrence.ts'
import { LayerWeights } from './weights.ts'

/** Token ids (batch, tokens) where the range starts with the embedding, else hidden states (batch, tokens, hidden). */
export const INPUT = 'input'
/** What another model made of each token's predecessor, after its last norm (batch, tokens, hidden), where a layer joins it. */
export const PREVIOUS = 'previous'
/** Hidden states (batch, tokens, hidden) of a range without the head. */
export const HIDDEN = 'hidden'
/** Which rows of the flattened (batch * tokens) reach the head: (rows). None skips the head. */
export const ROWS = 'rows'
/** Which of those rows go on from the norm to the vocabulary: (logits). */
export const LOGIT_ROWS = 'logit_rows'
/** Hidden states of the first ones after the norm: (rows, hidden). */
export const NORMED = 'normed'
/** What the head makes of the rows that go on: (logits, vocabulary), and the logarithm of the sum of their exponentials (logits, 1). */
export const LOGITS = 'logits'
export const LOG_SUM = 'log_sum'

/** An empty sequence, always the first output: see OnnxSession.run. */
export const NO_COPY = 'no_copy'

/** Hidden states between two layers: `stream`, to which `update` is still to be added. */
interface Residual {
  stream: string
  update?: string
  /** `stream` came from another stage, where the update has been added to it already. */
  arrived?: boolean
}

/**
 * The graph that computes the layers of `range`. Weights stay in the layers' files, as external data.
 *
 * Inputs and outputs carry the names above; decoder layers add `past_*`, `present_*` (attention.ts, recurrence.ts) and the shared
 * inputs of attention: seqlens_k int32 (batch) = tokens in the cache after the step, less one; total_length int32 ()
 * = the largest of them, plus one, both of each window (attention.ts); cos and sin (rows, rotated / 2), for each way of turning that the layers have.
 *
 * @param options `lanes`: sequences with any number of rows each that a run may have, as lanes.ts says; `groupsHeads`: a run may
 * compute query heads as rows, as grouped-attention.ts says
 */
export function shardGraph(
  manifest: Manifest,
  range: LayerRange,
  options: { lanes?: number; groupsHeads?: boolean } = {}
): Graph {
  const { shape } = manifest
  const graph = new GraphBuilder()
  graph.onnx('SequenceEmpty', [], {}, graph.sequenceOutput(NO_COPY))
  const layers = layersOf(range).map(layer => {
    const file = manifest.layers[layer]
    if (file === undefined) throw new RangeError(`layer ${layer} is not in [0, ${manifest.layers.length})`)
    return {
      layer,
      kind: layerKind(layer, shape.decoderLayers),
      weights: new LayerWeights(graph, `layer${layer}`, file)
    }
  })
  const toHead = layers.at(-1)?.kind === 'head'
  const decoding = layers.flatMap(({ kind, layer }) => (kind === 'decoder' ? [layer] : []))
  const attending = decoding.filter(layer => attends(shape, layer))
  const lanes = new Lanes(graph, decoding.length > 0 ? (options.lanes ?? 1) : 1, options.groupsHeads)
  declareInputs(graph, shape, layers[0]?.kind === 'embedding', { attending, lanes }, toHead)

  // The first decoder layer adds nothing to the embedding, wherever the model is cut.
  let residual: Residual = { stream: INPUT, arrived: range[0] > 1 }
  for (const { layer, kind, weights } of layers) {
    if (kind === 'embedding') residual = { stream: embed(graph, shape, weights) }
    else if (kind === 'decoder') {
      // Only the rows that are sampled need the last layer's feed-forward part.
      const select = toHead && layer === shape.decoderLayers
      const joined = joinStates(graph, shape, layer, weights, residual)
      residual = decoderLayer(graph, lanes, shape, layer, weights, joined, select)
    } else
      head(graph, shape, weights, residual, {
        norm: headNorm(graph, manifest, weights),
        selected: layers.length > 1
      })
  }
  if (!toHead) {
    graph.output(HIDDEN, 'float32', ['batch', 'tokens', shape.hiddenSize])
    const { stream, update } = residual
    if (update === undefined) graph.onnx('Identity', [stream], {}, HIDDEN)
    else graph.onnx('Add', [update, stream], {}, HIDDEN)
  }
  return graph.build(`layers_${range[0]}_${range[1]}`)
}

function declareInputs(
  graph: GraphBuilder,
  shape: ModelShape,
  fromTokens: boolean,
  { attending, lanes }: { attending: readonly number[]; lanes: Lanes },
  toHead: boolean
): void {
  if (fromTokens) graph.input(INPUT, 'int32', ['batch', 'tokens'])
  else graph.input(INPUT, 'float32', ['batch', 'tokens', shape.hiddenSize])
  if (attending.some(layer => blockOf(shape, layer).joins !== undefined)) {
    graph.input(PREVIOUS, 'float32', ['batch', 'tokens', shape.hiddenSize])
  }
  if (attending.length > 0) {
    for (const lane of lanes.from(0)) {
      for (const window of windowsIn(shape, attending)) {
        graph.input(ofLane(seqlensName(window), lane), 'int32', [ofLane('slots', lane)])
        graph.input(ofLane(totalName(window), lane), 'int32', [])
      }
    }
    for (const { number, turning } of usedTurnings(shape, attending)) {
      for (const part of ['cos', 'sin'] as const) {
        graph.input(rotaryName(part, number), 'float32', ['rotations', turning.rotated / 2])
      }
    }
    if (takesPositions(shape, attending)) graph.input(POSITIONS, 'int64', ['batch', 'tokens'])
  }
  if (toHead) {
    graph.input(ROWS, 'int32', ['rows'])
    graph.input(LOGIT_ROWS, 'int32', ['logits'])
  }
}

function embed(graph: GraphBuilder, shape: ModelShape, weights: LayerWeights): string {
  const blocks = weights.blocks('embedding')
  if (blocks === undefined) return graph.onnx('Gather', [weights.constant('embedding'), INPUT], { axis: 0 })
  const { bits, blockSize, shifted } = blocks
  const count = Math.ceil(shape.hiddenSize / blockSize)
  const table = weights.constant('embedding.weight', [shape.vocabSize, (count * blockSize * bits) / 8])
  const scales = weights.constant('embedding.scales', [shape.vocabSize, count])
  const attributes = { bits, block_size: blockSize, gather_axis: 0, quantize_axis: 1 }
  const rows = graph.contrib('GatherBlockQuantized', [table, INPUT, scales], attributes)
  if (!shifted) return rows
  // (batch, tokens, blocks, blockSize) plus (batch, tokens, blocks, 1); 0 keeps a dimension as it is.
  const inBlocks = graph.onnx('Reshape', [rows, int64(graph, [0n, 0n, BigInt(count), BigInt(blockSize)])])
  const shifts = graph.onnx('Gather', [weights.constant('embedding.shifts'), INPUT], { axis: 0 })
  const inColumn = graph.onnx('Reshape', [shifts, int64(graph, [0n, 0n, BigInt(count), 1n])])
  const sum = graph.onnx('Add', [inBlocks, inColumn])
  return graph.onnx('Reshape', [sum, int64(graph, [0n, 0n, BigInt(shape.hiddenSize)])])
}

/** What goes into a layer that guesses, of the token's embedding and what another model made of the token before it. */
function joinStates(
  graph: GraphBuilder,
  shape: ModelShape,
  layer: number,
  weights: LayerWeights,
  residual: Residual
): Residual {
  const { joins } = blockOf(shape, layer)
  if (joins === undefined) return residual
  const token = normalise(graph, shape, weights.constant('token_norm'), residual.stream, 2)
  const hidden = normalise(graph, shape, weights.constant('hidden_norm'), PREVIOUS, 2)
  const both = graph.onnx('Concat', joins === 'token-first' ? [token, hidden] : [hidden, token], { axis: 2 })
  return { stream: weights.project('join', 2 * shape.hiddenSize, both) }
}

/** The last norm's weights: the head's, or those of the layer that guesses. */
function headNorm(graph: GraphBuilder, { shape, layers }: Manifest, weights: LayerWeights): string {
  const last = layers[shape.decoderLayers]!
  return blockOf(shape, shape.decoderLayers).joins === undefined
    ? weights.constant('norm')
    : new LayerWeights(graph, 'guess', last).constant('guess_norm')
}

/** One decoder layer, by what its block says: the one place where a block becomes a graph. */
function decoderLayer(
  graph: GraphBuilder,
  lanes: Lanes,
  shape: ModelShape,
  layer: number,
  weights: LayerWeights,
  residual: Residual,
  select: boolean
): Residual {
  const { hiddenSize } = shape
  const { ffnSize } = layerSizes(shape, layer)
  const block = blockOf(shape, layer)
  const { recurrence: spec, feedForward: feedForwardBlock, norms, outputScale } = block
  const rank = select ? 2 : 3
  const normIn = (before: Residual, name: string, of: 2 | 3) =>
    norms === 'after' ? plainSum(graph, before) : norm(graph, shape, weights.constant(name), before, of)
  const normOut = (update: string, name: string) =>
    norms === 'before' ? update : normalise(graph, shape, weights.constant(name), update, rank - 1)
  const rowsOf = (x: string, width: number) => (select ? rows(graph, x, width) : x)
  const attend = (normed: string) => {
    const { latent } = block.attention
    return latent === undefined
      ? attention(graph, lanes, block.attention, shape, layer, weights, normed)
      : latentAttention(graph, lanes, { ...block.attention, latent }, shape, layer, weights, normed)
  }
  const mixed = (normed: string) => {
    if (spec === undefined) {
      const width = attendedSize(shape, layer)
      const bias = block.attention.bias === 'all' ? { bias: 'attention_output_bias' } : {}
      return weights.project('attention_output', width, rowsOf(attend(normed), width), { rank, ...bias })
    }
    const { width } = recurrenceSizes(spec, hiddenSize)
    const read = recurrence(graph, lanes, shape, layer, weights, normed)
    return weights.project('recurrence_output', width, rowsOf(read, width), { rank })
  }
  const between = (): Residual => {
    if (!mixesTokens(block)) return selected(residual, x => rowsOf(x, hiddenSize))
    const [normed, stream] = normIn(residual, 'attention_norm', 3)
    const update = normOut(mixed(normed), 'attention_post_norm')
    return { stream: rowsOf(stream, hiddenSize), update }
  }
  const last = (before: Residual): Residual => {
    if (feedForwardBlock.kind === 'none') return before
    const [normed, stream] = normIn(before, 'ffn_norm', rank)
    const ffn =
      feedForwardBlock.kind === 'experts' && feedForwardBlock.beside
        ? expertsBeside(graph, shape, feedForwardBlock, ffnSize, weights, { normed, stream }, rank)
        : feedForward(graph, feedForwardBlock, { hiddenSize, ffnSize }, weights, normed, rank)
    return { stream, update: normOut(ffn, 'ffn_post_norm') }
  }
  const after = last(between())
  return outputScale ? scaled(graph, after, weights.constant('output_scale')) : after
}

/** What `select` makes of both. */
function selected(residual: Residual, select: (x: string) => string): Residual {
  const { stream, update, ...others } = residual
  return { ...others, stream: select(stream), ...(update !== undefined && { update: select(update) }) }
}

/** stream + update times a number: what comes next normalises it as what arrives from another stage. */
function scaled(graph: GraphBuilder, residual: Residual, scale: string): Residual {
  const [sum] = plainSum(graph, residual)
  return { stream: graph.onnx('Mul', [sum, scale]), arrived: true }
}

/** stream + update where nothing is normalised on the way in, twice: as what is computed with, and as the stream. */
function plainSum(graph: GraphBuilder, { stream, update }: Residual): [input: string, stream: string] {
  const sum = update === undefined ? stream : graph.onnx('Add', [update, stream])
  return [sum, sum]
}

/**
 * The norm of stream + update; returns the normalised sum and the sum. What arrived from another stage gets an update of
 * zeros, so that the same operator normalises it: a cut changes no bit of what a model computes.
 */
function norm(
  graph: GraphBuilder,
  shape: ModelShape,
  weight: string,
  residual: Residual,
  rank: 2 | 3
): [normed: string, stream: string] {
  const { stream } = residual
  const update = residual.update ?? (residual.arrived ? graph.onnx('Sub', [stream, stream]) : undefined)
  if (update === undefined) return [normalise(graph, shape, weight, stream, rank - 1), stream]
  return normaliseSum(graph, shape, weight, update, stream)
}

/** x (batch, tokens, width) to its rows named by ROWS: (rows, width). */
function rows(graph: GraphBuilder, x: string, width: number): string {
  // Reshape cannot infer -1 from an empty tensor, and needs not: a step has at least one token.
  const flat = graph.onnx('Reshape', [x, int64(graph, [-1n, BigInt(width)])])
  return graph.onnx('Gather', [flat, ROWS], { axis: 0 })
}

function head(
  graph: GraphBuilder,
  shape: ModelShape,
  weights: LayerWeights,
  residual: Residual,
  { norm: weight, selected }: { norm: string; selected: boolean }
): void {
  const { hiddenSize, vocabSize, logitSoftcap } = shape
  graph.output(LOGITS, 'float32', ['logits', vocabSize])
  graph.output(LOG_SUM, 'float32', ['logits', 1])
  graph.output(NORMED, 'float32', ['rows', hiddenSize])
  const last: Residual = selected
    ? residual
    : { stream: rows(graph, residual.stream, hiddenSize), arrived: true }
  const [all] = norm(graph, shape, weight, last, 2)
  graph.onnx('Identity', [all], {}, NORMED)
  const normed = graph.onnx('Gather', [all, LOGIT_ROWS], { axis: 0 })
  if (logitSoftcap === undefined) weights.project('output', hiddenSize, normed, { output: LOGITS, rank: 2 })
  else softcap(graph, logitSoftcap, weights.project('output', hiddenSize, normed, { rank: 2 }), LOGITS)
  graph.onnx('ReduceLogSumExp', [LOGITS, int64(graph, [1n])], { keepdims: 1 }, LOG_SUM)
}

/** cap tanh(x / cap) */
function softcap(graph: GraphBuilder, cap: number, x: string, output: string): void {
  const constant = float32(graph, cap)
  const bent = graph.onnx('Tanh', [graph.onnx('Div', [x, constant])])
  graph.onnx('Mul', [bent, constant], {}, output)
}
