import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { type LayerKind, layerKind } from '../layers.ts'
import type { Quantization } from '../manifest.ts'
import { endOf, type LayerTensor, layerTensors, placeTensor } from '../tensors.ts'
import { type PartOptions, partsOf } from './naming.ts'
import type { Part, WeightSource } from './weights.ts'

/** One tensor of a layer: what it is made of, and how it will be packed. */
export interface PlannedTensor {
  tensor: LayerTensor
  parts: Part[]
  packing: Quantization | undefined
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
}

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
    const tensors = layerTensors(options.shape, index).map(tensor => planTensor(tensor, kind, index, options))
    const bytes = tensors.reduce(
      (offset, { tensor, packing }) => endOf(placeTensor(tensor, packing, offset).at(-1)!),
      0
    )
    return { kind, tensors, bytes }
  })
  refuseUnused(layers, options)
  return layers
}

function planTensor(
  tensor: LayerTensor,
  kind: LayerKind,
  index: number,
  options: LayerPlanOptions
): PlannedTensor {
  const parts = partsOf(tensor.name, kind, index, tensor.dims[0], options)
  for (const part of parts) checkPart(part, tensor, options)
  return { tensor, parts, packing: packingOf(tensor, parts, options) }
}

function checkPart({ name, rows }: Part, tensor: LayerTensor, { source, file }: LayerPlanOptions): void {
  const found = source.dims(name)
  const expected = [rows, ...tensor.dims.slice(1)]
  if (found === undefined) throw new CheckpointError(file, `tensor ${name} is missing`)
  if (found.length !== expected.length || found.some((n, i) => n !== expected[i])) {
    throw new CheckpointError(
      file,
      `tensor ${name} has shape (${found.join(', ')}), the configuration asks for (${expected.join(', ')})`
    )
  }
}

/** How a tensor is packed: as asked, or the narrowest blocks that keep all its parts exactly. */
function packingOf(tensor: LayerTensor, parts: Part[], options: LayerPlanOptions): Quantization | undefined {
  if (tensor.dims.length === 1) return undefined
  if (options.quantize !== undefined) return fitting(options.quantize, tensor, options)
  let common: Quantization | undefined
  for (const { name } of parts) {
    const packing = options.source.packing(name)
    if (packing === undefined) return undefined
    common = {
      bits: common?.bits === 8 ? 8 : packing.bits,
      blockSize: Math.min(common?.blockSize ?? Infinity, packing.blockSize),
      ...((common?.shifted || packing.shifted) && { shifted: true })
    }
  }
  return common
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
