import { ManifestError } from './errors.ts'
import type { LayerKind } from './layers.ts'
import type { LayerFile, ModelShape, Quantization, TensorEntry } from './manifest.ts'

/**
 * One tensor that a layer of a kind holds, the same for every architecture.
 *
 * | layer | tensor | shape |
 * |---|---|---|
 * | embedding | `embedding` | (vocab, hidden) |
 * | decoder | `attention_norm`, `ffn_norm` | (hidden) |
 * | | `qkv`: rows of q, then k, then v | ((heads + 2 kvHeads) headSize, hidden) |
 * | | `qkv_bias`, optional | ((heads + 2 kvHeads) headSize) |
 * | | `q_norm` and `k_norm`, optional | (headSize) |
 * | | `attention_output` | (hidden, heads headSize) |
 * | | `gate_up`: rows of gate, then up | (2 ffn, hidden) |
 * | | `ffn_down` | (hidden, ffn) |
 * | head | `norm` | (hidden) |
 * | | `output` | (vocab, hidden) |
 *
 * q and k rows are in half-split rotary order: the partner of row i of a head is row i + headSize / 2.
 */
export interface LayerTensor {
  name: string
  /** (out, in) of a projection, which may be quantised; (length) of a norm or bias, always float32. */
  dims: [out: number, inputs: number] | [length: number]
  optional: boolean
}

/** The tensors of a layer, in the order in which its file has them. */
export function layerTensors(kind: LayerKind, shape: ModelShape): LayerTensor[] {
  const { hiddenSize, ffnSize, heads, kvHeads, headSize, vocabSize } = shape
  const qkvRows = (heads + 2 * kvHeads) * headSize
  const tensor = (name: string, ...dims: LayerTensor['dims']) => ({ name, dims, optional: false })
  const optional = (name: string, ...dims: LayerTensor['dims']) => ({ name, dims, optional: true })
  switch (kind) {
    case 'embedding':
      return [tensor('embedding', vocabSize, hiddenSize)]
    case 'decoder':
      return [
        tensor('attention_norm', hiddenSize),
        tensor('qkv', qkvRows, hiddenSize),
        optional('qkv_bias', qkvRows),
        optional('q_norm', headSize),
        optional('k_norm', headSize),
        tensor('attention_output', hiddenSize, heads * headSize),
        tensor('ffn_norm', hiddenSize),
        tensor('gate_up', 2 * ffnSize, hiddenSize),
        tensor('ffn_down', hiddenSize, ffnSize)
      ]
    case 'head':
      return [tensor('norm', hiddenSize), tensor('output', vocabSize, hiddenSize)]
  }
}

/**
 * Where the entries of one tensor lie in a layer's file when it starts at or after `offset`: one entry, or weight,
 * scales and perhaps shifts of a quantised projection.
 */
export function placeTensor(
  { name, dims }: LayerTensor,
  quantization: Quantization | undefined,
  offset: number
): TensorEntry[] {
  const [out, inputs] = dims
  if (quantization === undefined || inputs === undefined) {
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
 * Checks that a layer's file holds the tensors of its kind, in order, with the shapes that the model's shape gives
 * them, one behind the other at multiples of 64 bytes, and nothing else.
 *
 * @throws {ManifestError} naming the tensor.
 */
export function checkTensors(layer: LayerFile, shape: ModelShape): void {
  const entries = [...layer.tensors]
  let offset = 0
  for (const expected of layerTensors(layer.kind, shape)) {
    const first = entries[0]
    const quantized = first?.name === `${expected.name}.weight`
    if (first === undefined || (!quantized && first.name !== expected.name)) {
      if (expected.optional) continue
      throw new ManifestError(`tensor ${expected.name} is missing, or not where it belongs`)
    }
    if (quantized && (first.quantization === undefined || expected.dims.length === 1)) {
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
  const names = new Set(layer.tensors.map(t => t.name))
  if (names.has('q_norm') !== names.has('k_norm')) throw new ManifestError('q_norm and k_norm come together')
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
