import { type Block, type LatentSpec, mixesTokens } from './block-schema.ts'
import { blockOf, layerSizes } from './blocks.ts'
import { ManifestError } from './errors.ts'
import { layerKind } from './layers.ts'
import type { LayerFile, ModelShape, Quantization, TensorEntry } from './manifest-schema.ts'
import { recurrenceSizes } from './recurrence.ts'
import type { Recurrence } from './recurrence-schema.ts'

/**
 * One tensor that a layer holds.
 *
 * | layer | tensor | shape | where the layer's block has |
 * |---|---|---|---|
 * | embedding | `embedding` | (vocab, hidden) | |
 * | decoder | `attention_norm`, `ffn_norm` | (hidden) | norms `before` or `around`; of a layer of one part, that part's |
 * | | `qkv`: rows of q, then k, then v | ((heads + 2 kvHeads) headSize, hidden) | |
 * | | `qkv_bias` | ((heads + 2 kvHeads) headSize) | bias `qkv` or `all` |
 * | | `q_norm`, `k_norm` | (headSize) | queryKeyNorm `head` or `head-turned` |
 * | | | (heads headSize), (kvHeads headSize) | queryKeyNorm `all` |
 * | | `sinks` | (heads) | sinks |
 * | | `query_down`, `query_norm` | (query, hidden), (query) | a latent vector of queries, too |
 * | | `query`: of each head rows that are not turned, then those that are | (heads (unturned + rotated), hidden or query) | attention `latent`, in the place of `qkv` |
 * | | `latent`: rows of the latent vector, then of what is turned | (size + rotated, hidden) | |
 * | | `latent_norm` | (size) | |
 * | | `key_up`, `value_up` | (heads unturned, size), (heads value, size) | |
 * | | `attention_output` | (hidden, heads headSize), or (hidden, heads value) of latent attention | |
 * | | `attention_output_bias` | (hidden) | bias `all` |
 * | | `attention_gate` | (heads headSize, hidden) | outputGate |
 * | | `recurrence_in` and the others of `recurrenceTensors` | | a recurrence, instead of attention |
 * | | `attention_post_norm`, `ffn_post_norm` | (hidden) | norms `after` or `around` |
 * | | `gate_up`: rows of gate, then up | (2 ffn, hidden) | feed-forward part `gated`, |
 * | | `up`, in its place | (ffn, hidden) | the same, where it is `ungated` |
 * | | `ffn_down` | (hidden, ffn) | or beside experts |
 * | | `dense_post_norm`, `experts_norm`, `router_norm`, `experts_post_norm` | (hidden) | experts that are beside a dense unit |
 * | | `router` | (experts, hidden) | feed-forward part `experts` |
 * | | `router_bias` | (experts) | experts with bias |
 * | | `router_correction` | (experts) | experts that are corrected |
 * | | `router_scale` | (experts) | experts that are beside a dense unit |
 * | | `expert_gate_up`: of each expert rows of gate, then up | (experts * 2 ffn, hidden) | |
 * | | `expert_up`, in its place | (experts * ffn, hidden) | experts that are `ungated` |
 * | | `expert_gate_up_bias` | (experts * 2 ffn) | experts with bias |
 * | | `expert_down`: one expert below the other | (experts * hidden, ffn) | |
 * | | `expert_down_bias` | (experts * hidden) | experts with bias |
 * | | `shared_gate_up`, `shared_down` | (2 size, hidden), (hidden, size) | a shared expert |
 * | | `shared_up`, in the place of the former | (size, hidden) | a shared expert beside those that are `ungated` |
 * | | `shared_gate` | (1, hidden) | a shared expert that is gated |
 * | | `output_scale` | (1) | outputScale |
 * | | `token_norm`, `hidden_norm` | (hidden) | joins |
 * | | `join`: columns of both in the order that joins says | (hidden, 2 hidden) | |
 * | | `guess_norm`: in the place of the head's norm | (hidden) | |
 * | head | `norm` | (hidden) | |
 * | | `output` | (vocab, hidden) | |
 *
 * q and k rows are in half-split rotary order: the partner of row i of a head is row i + rotated / 2,
 * of so many rows as are turned. Sizes are the layer's own where its block has them.
 */
export interface LayerTensor {
  name: string
  /** (out, in) of a projection, which may be quantised; (length) of a norm or bias, always float32. */
  dims: [out: number, inputs: number] | [length: number]
  /**
   * A projection that is float32 always: the least error would send tokens to other experts, or add up in a state, or it is used
   * head by head.
   */
  precise?: true
}

/** The tensors of a layer, in the order in which its file has them. */
export function layerTensors(shape: ModelShape, layer: number): LayerTensor[] {
  const { hiddenSize, vocabSize, decoderLayers } = shape
  switch (layerKind(layer, decoderLayers)) {
    case 'embedding':
      return [tensor('embedding', vocabSize, hiddenSize)]
    case 'decoder':
      return decoderTensors(shape, layer)
    case 'head':
      return [tensor('norm', hiddenSize), tensor('output', vocabSize, hiddenSize)]
  }
}

function decoderTensors(shape: ModelShape, layer: number): LayerTensor[] {
  const { hiddenSize } = shape
  const { ffnSize } = layerSizes(shape, layer)
  const block = blockOf(shape, layer)
  const { feedForward, norms, outputScale, joins } = block
  const before = norms !== 'after'
  const after = norms !== 'before'
  return [
    ...(joins === undefined
      ? []
      : [
          tensor('token_norm', hiddenSize),
          tensor('hidden_norm', hiddenSize),
          tensor('join', hiddenSize, 2 * hiddenSize)
        ]),
    ...(before && mixesTokens(block) ? [tensor('attention_norm', hiddenSize)] : []),
    ...mixingTensors(shape, layer),
    ...(after ? [tensor('attention_post_norm', hiddenSize)] : []),
    ...(before && feedForward.kind !== 'none' ? [tensor('ffn_norm', hiddenSize)] : []),
    ...feedForwardTensors(feedForward, shape, ffnSize),
    ...(after ? [tensor('ffn_post_norm', hiddenSize)] : []),
    ...(outputScale ? [tensor('output_scale', 1)] : []),
    ...(joins === undefined ? [] : [tensor('guess_norm', hiddenSize)])
  ]
}

function mixingTensors(shape: ModelShape, layer: number): LayerTensor[] {
  const { attention, recurrence } = blockOf(shape, layer)
  if (recurrence !== undefined) return recurrenceTensors(recurrence, shape.hiddenSize)
  if (attention.kind === 'none') return []
  return attention.latent === undefined
    ? groupedTensors(shape, layer, attention)
    : latentTensors(shape, layer, attention.latent)
}

function groupedTensors(shape: ModelShape, layer: number, attention: Block['attention']): LayerTensor[] {
  const { hiddenSize } = shape
  const { heads, kvHeads, headSize } = layerSizes(shape, layer)
  const qkvRows = (heads + 2 * kvHeads) * headSize
  const ofHeads = [tensor('q_norm', headSize), tensor('k_norm', headSize)]
  const queryKeyNorms = {
    none: [],
    head: ofHeads,
    'head-turned': ofHeads,
    all: [tensor('q_norm', heads * headSize), tensor('k_norm', kvHeads * headSize)]
  }
  return [
    tensor('qkv', qkvRows, hiddenSize),
    ...(attention.bias === 'none' ? [] : [tensor('qkv_bias', qkvRows)]),
    ...queryKeyNorms[attention.queryKeyNorm],
    ...(attention.sinks ? [tensor('sinks', heads)] : []),
    ...(attention.outputGate ? [tensor('attention_gate', heads * headSize, hiddenSize)] : []),
    tensor('attention_output', hiddenSize, heads * headSize),
    ...(attention.bias === 'all' ? [tensor('attention_output_bias', hiddenSize)] : [])
  ]
}

function latentTensors(
  shape: ModelShape,
  layer: number,
  { size, unturned, value, query }: LatentSpec
): LayerTensor[] {
  const { hiddenSize } = shape
  const { heads, headSize } = layerSizes(shape, layer)
  return [
    ...(query === undefined ? [] : [tensor('query_down', query, hiddenSize), tensor('query_norm', query)]),
    tensor('query', heads * (unturned + headSize - size), query ?? hiddenSize),
    tensor('latent', headSize, hiddenSize),
    tensor('latent_norm', size),
    { ...tensor('key_up', heads * unturned, size), precise: true },
    { ...tensor('value_up', heads * value, size), precise: true },
    tensor('attention_output', hiddenSize, heads * value)
  ]
}

/** What goes into a unit's activation: how many rows it has for each value, and what it is called where. */
export const GATED = {
  rows: 2,
  names: { dense: 'gate_up', expert: 'expert_gate_up', shared: 'shared_gate_up' }
}
export const UNGATED = { rows: 1, names: { dense: 'up', expert: 'expert_up', shared: 'shared_up' } }

function feedForwardTensors(
  feedForward: Block['feedForward'],
  { hiddenSize, ffnSize: denseSize }: Pick<ModelShape, 'hiddenSize' | 'ffnSize'>,
  ffnSize: number
): LayerTensor[] {
  if (feedForward.kind === 'none') return []
  const { ungated } = feedForward
  const { rows, names } = ungated ? UNGATED : GATED
  const dense = (size: number) => [
    tensor(names.dense, rows * size, hiddenSize),
    tensor('ffn_down', hiddenSize, size)
  ]
  if (feedForward.kind === 'gated') return dense(ffnSize)
  const { experts, shared, bias, corrected, beside } = feedForward
  const norms = (...names: string[]) => (beside ? names.map(name => tensor(name, hiddenSize)) : [])
  const biasOf = (name: string, length: number) => (bias ? [tensor(name, length)] : [])
  return [
    ...(beside ? dense(denseSize) : []),
    ...norms('dense_post_norm', 'experts_norm', 'router_norm'),
    precise('router', experts, hiddenSize),
    ...biasOf('router_bias', experts),
    ...(corrected ? [tensor('router_correction', experts)] : []),
    ...(beside ? [tensor('router_scale', experts)] : []),
    tensor(names.expert, experts * rows * ffnSize, hiddenSize),
    ...biasOf('expert_gate_up_bias', experts * 2 * ffnSize),
    tensor('expert_down', experts * hiddenSize, ffnSize),
    ...biasOf('expert_down_bias', experts * hiddenSize),
    ...norms('experts_post_norm'),
    ...(shared === undefined
      ? []
      : [
          tensor(names.shared, rows * shared.size, hiddenSize),
          tensor('shared_down', hiddenSize, shared.size)
        ]),
    ...(shared?.gated ? [precise('shared_gate', 1, hiddenSize)] : [])
  ]
}

/**
 * What a recurrence computes with. `recurrence_in` has the rows of what is convolved and of the gate:
 *
 * | kind | rows |
 * |---|---|
 * | gated-delta | queries, keys, values, the gate |
 * | short-convolution | the gate of what goes in, that of what comes out, the input |
 * | state-space | the gate, the inputs, what they go in by, what they come out by |
 *
 * `rates`, of gated-delta the rows of what a token weighs and then of how fast the state forgets, of state-space of the latter
 * alone, with `rate_bias` and `decay`, which is below 0; `skip`, of state-space, is what of a head's input passes by its state.
 */
function recurrenceTensors(spec: Recurrence, hiddenSize: number): LayerTensor[] {
  const { inputs, channels, rates, width, matrices } = recurrenceSizes(spec, hiddenSize)
  const [heads = 0] = matrices ?? []
  const hasBias = spec.kind === 'state-space' && spec.bias
  const normed = spec.kind === 'gated-delta' ? spec.valueSize : width
  return [
    tensor('recurrence_in', inputs, hiddenSize),
    ...(rates === 0
      ? []
      : [precise('rates', rates, hiddenSize), tensor('rate_bias', heads), tensor('decay', heads)]),
    precise('convolution', channels, spec.taps),
    ...(hasBias ? [tensor('convolution_bias', channels)] : []),
    ...(spec.kind === 'state-space' ? [tensor('skip', heads)] : []),
    ...(spec.kind === 'short-convolution' ? [] : [tensor('recurrence_norm', normed)]),
    tensor('recurrence_output', hiddenSize, width)
  ]
}

function precise(name: string, rows: number, columns: number): LayerTensor {
  return { ...tensor(name, rows, columns), precise: true }
}

function tensor(name: string, ...dims: LayerTensor['dims']): LayerTensor {
  return { name, dims }
}

/**
 * Where the entries of one tensor lie in a layer's file when it starts at or after `offset`: one entry, or weight,
 * scales and perhaps shifts of a quantised projection.
 */
export function placeTensor(
  { name, dims, precise }: LayerTensor,
  quantization: Quantization | undefined,
  offset: number
): TensorEntry[] {
  const [out, inputs] = dims
  if (quantization === undefined || inputs === undefined || precise) {
    return [place({ name, type: 'float32', shape: [...dims] }, offset)]
  }
  const { bits, blockSize, shifted } = quantization
  const blocks = Math.ceil(inputs / blockSize)
  if (shifted && inputs % blockSize !== 0) {
    throw new ManifestError(`tensor ${name} has rows of ${inputs}, not whole shifted blocks of ${blockSize}`)
  }
  const weight = place(
    { name: `${name}.weight`, type: 'uint8', shape: [out, blocks, (blockSize * bits) / 8] },
    offset
  )
  const scales = place({ name: `${name}.scales`, type: 'float32', shape: [out, blocks] }, endOf(weight))
  if (!shifted) return [{ ...weight, quantization }, scales]
  const shifts = place({ name: `${name}.shifts`, type: 'float32', shape: [out, blocks] }, endOf(scales))
  return [{ ...weight, quantization }, scales, shifts]
}

/** The first byte behind a tensor. */
export function endOf(entry: TensorEntry): number {
  return entry.offset + entry.bytes
}

/**
 * Checks that the file of layer `index` holds the tensors that it computes with, in order, with the shapes that the
 * model's shape gives them, one behind the other at multiples of 64 bytes, and nothing else.
 *
 * @throws {ManifestError} naming the tensor.
 */
export function checkTensors(layer: LayerFile, shape: ModelShape, index: number): void {
  const entries = [...layer.tensors]
  let offset = 0
  for (const expected of layerTensors(shape, index)) {
    const first = entries[0]
    const quantized = first?.name === `${expected.name}.weight`
    if (first === undefined || (!quantized && first.name !== expected.name)) {
      throw new ManifestError(`tensor ${expected.name} is missing, or not where it belongs`)
    }
    if (quantized && (first.quantization === undefined || expected.dims.length === 1 || expected.precise)) {
      throw new ManifestError(`tensor ${first.name} does not say how it is packed, or may not be`)
    }
    for (const placed of placeTensor(expected, quantized ? first.quantization : undefined, offset)) {
      checkEntry(entries.shift(), placed)
      offset = endOf(placed)
    }
  }
  if (entries[0] !== undefined)
    throw new ManifestError(`tensor ${entries[0].name} does not belong to the layer`)
  if (layer.bytes !== offset) {
    throw new ManifestError(`file has ${layer.bytes} bytes, its tensors end at ${offset}`)
  }
}

function checkEntry(entry: TensorEntry | undefined, placed: TensorEntry): void {
  if (entry === undefined || entry.name !== placed.name) {
    throw new ManifestError(`tensor ${placed.name} is missing, or not where it belongs`)
  }
  const same =
    entry.type === placed.type &&
    entry.offset === placed.offset &&
    entry.bytes === placed.bytes &&
    entry.shape.length === placed.shape.length &&
    entry.shape.every((n, i) => n === placed.shape[i]) &&
    (entry.quantization === undefined) === (placed.quantization === undefined)
  if (!same) {
    throw new ManifestError(
      `tensor ${entry.name}: ${describe(entry)} where the model's shape asks for ${describe(placed)}`
    )
  }
}

function describe({ type, shape, bytes, offset }: TensorEntry): string {
  return `${type} (${shape.join(', ')}), ${bytes} bytes at ${offset}`
}

function place(entry: Pick<TensorEntry, 'name' | 'type' | 'shape'>, offset: number): TensorEntry {
  const elements = entry.shape.reduce((product, n) => product * n, 1)
  return {
    ...entry,
    offset: Math.ceil(offset / 64) * 64,
    bytes: elements * (entry.type === 'float32' ? 4 : 1)
  }
}
