import { CheckpointError } from '../../errors.ts'
import { e4m3ToFloat32 } from '../../formats/float8.ts'
import type { RawRows } from '../weights.ts'
import { allFloats, checkDims, entryOf, type QuantizedTensor, type TensorFiles } from './tensor-files.ts'

/** FP8 values times a scale: of a tile of rows and columns, a row, or the whole tensor. */
interface Scales {
  values: Float32Array
  rows: number
  columns: number
  /** Tiles in a row. */
  across: number
}

/**
 * A projection of float8 (e4m3): `NAME.weight` (out, in), times `NAME.weight_scale_inv` a tile (DeepSeek, Qwen), or
 * `NAME.weight_scale` a row or a tensor.
 *
 * @param blockSize of a tile; undefined where tiles are rows or the tensor
 */
export function fp8Tensor(
  files: TensorFiles,
  module: string,
  scaleName: string,
  blockSize: [rows: number, columns: number] | undefined
): QuantizedTensor {
  const name = `${module}.weight`
  const { shape } = entryOf(files, name, 'F8_E4M3')
  const [out, columns] = shape
  if (shape.length !== 2)
    throw new CheckpointError(files.dir, `tensor ${name} has ${shape.length} dimensions`)
  const tile = tileOf(files, scaleName, [out!, columns!], blockSize)
  return {
    dims: shape,
    type: 'F8_E4M3',
    parts: [name, scaleName],
    packing: undefined,
    open: async () => {
      const scales = { ...tile, values: await allFloats(files, scaleName) }
      return async (start, end) => {
        const bytes = await files.readBytes(name, start * columns!, end * columns!)
        return rawFloats(() => scaled(bytes, start, columns!, scales))
      }
    }
  }
}

function tileOf(
  files: TensorFiles,
  scaleName: string,
  [out, columns]: [number, number],
  blockSize: [rows: number, columns: number] | undefined
): Omit<Scales, 'values'> {
  const { shape } = entryOf(files, scaleName, 'F32', 'F16', 'BF16')
  const count = shape.reduce((product, n) => product * n, 1)
  if (blockSize === undefined) {
    if (count === 1) return { rows: out, columns, across: 1 }
    if (count === out) return { rows: 1, columns, across: 1 }
  }
  const [rows, wide] = blockSize ?? [1, columns]
  const across = Math.ceil(columns / wide)
  checkDims(files, scaleName, shape, [Math.ceil(out / rows), across])
  return { rows, columns: wide, across }
}

function scaled(bytes: Uint8Array, firstRow: number, columns: number, scales: Scales): Float32Array {
  const values = e4m3ToFloat32(bytes)
  for (let at = 0, row = firstRow; at < values.length; row++) {
    const first = Math.floor(row / scales.rows) * scales.across
    for (let column = 0; column < columns; column++, at++) {
      values[at]! *= scales.values[first + Math.floor(column / scales.columns)]!
    }
  }
  return values
}

function rawFloats(floats: () => Float32Array): RawRows {
  return {
    floats,
    pack: () => {
      throw new Error('floats have no blocks')
    }
  }
}
