import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { type LayerKind, layerKind } from '../layers.ts'
import type { Quantization } from '../manifest.ts'
import { endOf, type LayerTensor, layerTensors, placeTensor } from '../tensors.ts'
import { type PartOptions, partsOf } from './naming.ts'
import { isSqueezed } from './recurrence-parts.ts'
import type { Part, WeightSource } from './weights.ts'

/** One tensor of a layer: what it is made of, and how it will be packed. */
export interface PlannedTensor {
  tensor: LayerTensor
  parts: Part[]
  packing: Quantization | undefined
  /** Its values are rounded to the packing; else it holds them as they are. */
  round: boolean
}

export interface PlannedLayer {
  kind: LayerKind
  tensors: PlannedTensor[]
  /** Size of its file. */
  bytes: number
}

export interface LayerPlanOptions extends PartOptions {
  source: WeightSource
  /** What errors call the checkpoint. */
  file: string
  /** Tensors that nothing is made of, and that may be there. */
  dropped: readonly string[]
  /** Blocks to round projections to; absent: as the source keeps them. */
  quantize?: Quantization
  /** Keep values as they are, however much more that takes than in the source; only without `quantize`. */
  exact?: boolean
}

/**
 * How many times the bytes of its file a tensor may take to keep its values as they are. More would be a waste: the
 * error of types of 1 to 3 bits is far above what rounding adds, and a file of 8-bit floats was chosen for its size.
 */
const MAX_GROWTH = 2.75
/** What is rounded because of that: to 4 bits, unless the source has more than so many bits a value. */
const FEW_BITS = 5
const ROUNDED_4_BITS: Quantization = { bits: 4, blockSize: 32 }
const ROUNDED_8_BITS: Quantization = { bits: 8, blockSize: 128 }

/**
 * Decides what every layer is made of, before a byte is written.
 *
 * @throws {CheckpointError} naming the tensor that is missing or misshapen; {UnsupportedModelError} naming one that
 * cannot be used, or that nothing would use: the checkpoint is not of the architecture that it says.
 */
export function planLayers(options: LayerPlanOptions): PlannedLayer[] {
  const { decoderLayers } = options.shape
  const layers = Array.from({ length: decoderLayers + 2 }, (_, index) => {
    const kind = layerKind(index, decoderLayers)
    return planLayer({ kind, index, tensors: layerTensors(options.shape, index) }, options)
  })
  refuseUnused(layers, options)
  return layers
}

/**
 * Decides what one layer is made of: that with number `index` in the checkpoint, counted as in a manifest.
 *
 * @throws as `planLayers`
 */
export function planLayer(
  { kind, index, tensors }: { kind: LayerKind; index: number; tensors: readonly LayerTensor[] },
  options: LayerPlanOptions
): PlannedLayer {
  const planned = tensors.map(tensor => planTensor(tensor, kind, index, options))
  const bytes = planned.reduce(
    (offset, { tensor, packing }) => endOf(placeTensor(tensor, packing, offset).at(-1)!),
    0
  )
  return { kind, tensors: planned, bytes }
}

function planTensor(
  tensor: LayerTensor,
  kind: LayerKind,
  index: number,
  options: LayerPlanOptions
): PlannedTensor {
  const parts = partsOf(tensor.name, kind, index, tensor.dims[0], options).flatMap(part =>
    asVector(part, tensor, options)
  )
  for (const part of parts) checkPart(part, tensor, options)
  return { tensor, parts, ...packingOf(tensor, parts, options) }
}

/** A projection to one number may lie in the file as a vector: rows of one value. */
function asVector(part: Part, { name, dims }: LayerTensor, { source }: LayerPlanOptions): Part[] {
  const [out, columns] = dims
  const found = source.dims(part.name)
  // A vector may be the rows of a matrix, one behind the other.
  const [count = 0, length = 0] = found ?? []
  if (
    isSqueezed(name) &&
    columns === undefined &&
    found?.length === 2 &&
    length > 1 &&
    count * length === out
  ) {
    return Array.from({ length: count }, (_, i) => ({
      ...{ ...part, rows: length, start: i * length, stack: count }
    }))
  }
  const isVector = out === 1 && columns !== undefined && found?.length === 1
  return [isVector ? { ...part, rows: columns } : part]
}

function checkPart(part: Part, tensor: LayerTensor, { source, file }: LayerPlanOptions): void {
  const { name, rows, stack, of = rows } = part
  const own = source.dims(name)
  const found = isSqueezed(tensor.name) && stack === undefined ? squeezed(own, tensor.dims.length) : own
  const isVector = tensor.dims[0] === 1 && found?.length === 1
  const expected = [...(stack === undefined ? [] : [stack]), of, ...(isVector ? [] : tensor.dims.slice(1))]
  if (found === undefined) throw new CheckpointError(file, `tensor ${name} is missing`)
  if (found.length !== expected.length || found.some((n, i) => n !== expected[i])) {
    throw new CheckpointError(
      file,
      `tensor ${name} has shape (${found.join(', ')}), the configuration asks for (${expected.join(', ')})`
    )
  }
}

/** A shape without dimensions of 1 behind the first one, as far as it has more than so many. */
function squeezed(dims: number[] | undefined, rank: number): number[] | undefined {
  const at = dims === undefined || dims.length <= rank ? -1 : dims.indexOf(1, 1)
  return at < 0 ? dims : squeezed(dims?.toSpliced(at, 1), rank)
}

/** How a tensor is packed: as asked, or in the narrowest blocks that keep all its parts exactly and are no waste. */
function packingOf(
  tensor: LayerTensor,
  parts: Part[],
  options: LayerPlanOptions
): Pick<PlannedTensor, 'packing' | 'round'> {
  const [out, columns] = tensor.dims
  if (columns === undefined || tensor.precise) return { packing: undefined, round: false }
  if (options.quantize !== undefined) {
    return { packing: fitting(options.quantize, tensor, options), round: true }
  }
  const packing = exactPacking(parts, options.source)
  const bits = parts.map(({ name }) => (options.source.bytes(name) * 8) / sizeOf(options.source.dims(name)!))
  const growth = (bitsOf(packing) * out) / parts.reduce((sum, { rows }, i) => sum + rows * bits[i]!, 0)
  if (options.exact || growth <= MAX_GROWTH) return { packing, round: false }
  const rounded = bits.some(own => own > FEW_BITS) ? ROUNDED_8_BITS : ROUNDED_4_BITS
  return { packing: fitting(rounded, tensor, options), round: true }
}

/** The narrowest blocks that keep all parts exactly; undefined for floats. */
function exactPacking(parts: Part[], source: WeightSource): Quantization | undefined {
  let common: Quantization | undefined
  for (const { name } of parts) {
    const packing = source.packing(name)
    if (packing === undefined) return undefined
    common = {
      bits: common?.bits === 8 ? 8 : packing.bits,
      blockSize: Math.min(common?.blockSize ?? Infinity, packing.blockSize),
      ...((common?.shifted || packing.shifted) && { shifted: true })
    }
  }
  return common
}

/** What a value takes in the store. */
function bitsOf(packing: Quantization | undefined): number {
  if (packing === undefined) return 32
  const { bits, blockSize, shifted } = packing
  return bits + ((shifted ? 2 : 1) * 32) / blockSize
}

function sizeOf(dims: readonly number[]): number {
  return dims.reduce((product, n) => product * n, 1)
}

/** The largest block up to the one asked for that divides the rows; where none does, a row's last block is padded. */
function fitting(
  { bits, blockSize }: Quantization,
  tensor: LayerTensor,
  { file, shape }: LayerPlanOptions
): Quantization {
  const columns = tensor.dims[1]!
  for (let size = blockSize; size >= 16; size /= 2) {
    if (columns % size === 0) return { bits, blockSize: size }
  }
  if (tensor.name === 'embedding') {
    throw new UnsupportedModelError(
      `${file}: a hidden size of ${shape.hiddenSize} has no whole blocks of 16; import it with --quantize none`
    )
  }
  return { bits, blockSize: Math.min(blockSize, 32) }
}

function refuseUnused(
  layers: PlannedLayer[],
  { source, file, naming, shape, dropped }: LayerPlanOptions
): void {
  const parts = layers.flatMap(layer => layer.tensors.flatMap(t => t.parts.map(part => part.name)))
  const used = new Set([...parts, ...dropped])
  for (const name of source.names) {
    // A tied head may be there twice; rotary frequencies follow from the configuration.
    if (used.has(name) || naming.output!.includes(name) || name.endsWith('rotary_emb.inv_freq')) continue
    throw new UnsupportedModelError(
      `${file}: tensor ${JSON.stringify(name.slice(0, 80))} is not part of architecture ${shape.architecture} ` +
        `with ${shape.decoderLayers} layers`
    )
  }
}
