import { CheckpointError } from '../../errors.ts'
import { blockSizeOf, rawBlocks } from './raw-blocks.ts'
import { floatRows, type QuantizedTensor, type TensorFiles } from './tensor-files.ts'

/** A projection whose integers lie along its rows as ours do. */
export interface RowsOfIntegers {
  type: string
  bits: 4 | 8
  dims: [out: number, columns: number]
  /** (out, columns bits / 8), the lower bits first, the middle of their range standing for 0. */
  integers: string
  /** Signed bytes: 128 is to be added. */
  signed?: boolean
  /** (out, groups): the value is scale q. */
  scales: string
  groups: number
  /** (out, groups): the value is scale u + bias, where u counts from 0. */
  biases?: string
  /** (out, groups) of zeros as floats, in the count of q: they are taken off before. */
  zeros?: (start: number, end: number) => Promise<Float32Array>
  parts: string[]
}

/** @throws {CheckpointError} where groups are no whole blocks. */
export function tensorOfRows(files: TensorFiles, rows: RowsOfIntegers): QuantizedTensor {
  const { bits, dims, groups, biases, zeros, signed, parts, type } = rows
  const [, columns] = dims
  const blockSize = blockSizeOf(columns / groups)
  if (blockSize === undefined) {
    throw new CheckpointError(
      files.dir,
      `${rows.integers}: ${columns} inputs in ${groups} groups are no whole blocks of 16`
    )
  }
  const shifted = biases !== undefined || zeros !== undefined
  const packing = { bits, blockSize, ...(shifted && { shifted: true as const }) }
  const blocksInGroup = columns / groups / blockSize
  const rowBytes = (columns * bits) / 8
  const read = async (start: number, end: number) => {
    const bytes = await files.readBytes(rows.integers, start * rowBytes, end * rowBytes)
    const scales = await floatRows(files, rows.scales, start, end)
    const bias = biases === undefined ? undefined : await floatRows(files, biases, start, end)
    const zero = await zeros?.(start, end)
    return rawBlocks(packing, ((end - start) * columns) / blockSize, into => {
      if (signed) for (let i = 0; i < bytes.length; i++) into.weight[i] = bytes[i]! ^ 128
      else into.weight.set(bytes)
      for (let at = 0; at < into.scales.length; at++) {
        const group = Math.floor(at / blocksInGroup)
        const scale = scales[group]!
        into.scales[at] = scale
        if (bias !== undefined) into.shifts![at] = bias[group]! + scale * 2 ** (bits - 1)
        if (zero !== undefined) into.shifts![at] = -scale * zero[group]!
      }
    })
  }
  return { dims, type, parts, packing, open: async () => read }
}
