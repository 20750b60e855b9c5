import { CheckpointError, UnsupportedModelError } from '../../errors.ts'
import type { QuantizationScheme } from './config.ts'
import { fp8Tensor } from './fp8.ts'
import { tensorOfRows } from './rows-of-integers.ts'
import { allWords, checkDims, entryOf, type QuantizedTensor, type TensorFiles } from './tensor-files.ts'

type Scheme = Extract<QuantizationScheme, { method: 'compressed-tensors' }>

/**
 * A projection of compressed-tensors: `NAME.weight_packed` (out, words) with integers along a row, the lowest bits first
 * and half their range added, or `NAME.weight` of signed bytes or float8; `NAME.weight_scale` (out, groups);
 * `NAME.weight_zero_point` (out / k, groups) with k of them a word, half their range added, where it is not symmetric.
 */
export function compressedTensor(files: TensorFiles, module: string, scheme: Scheme): QuantizedTensor {
  const { kind, bits, symmetric } = scheme
  const scales = `${module}.weight_scale`
  const order = `${module}.weight_g_idx`
  if (kind === 'floats') return fp8Tensor(files, module, scales, undefined)
  if (files.entry(order) !== undefined) {
    throw new UnsupportedModelError(
      `${files.dir}: ${order} (actorder) is not supported: inputs of a group lie anywhere`
    )
  }
  const packed = kind === 'packed'
  const integers = packed ? `${module}.weight_packed` : `${module}.weight`
  const { shape } = packed ? entryOf(files, integers, 'I32') : entryOf(files, integers, 'I8')
  const [out = 0, width = 0] = shape
  const columns = packed ? width * (32 / bits) : width
  const [, groups = 1] = entryOf(files, scales, 'F32', 'F16', 'BF16').shape
  checkDims(files, scales, files.entry(scales)!.shape, [out, groups])
  const parts = [integers, scales]
  const size = `${module}.weight_shape`
  if (files.entry(size) !== undefined) parts.push(size)
  const zeroName = `${module}.weight_zero_point`
  if (symmetric) {
    // Zeros that are said to be none may be written all the same.
    if (files.entry(zeroName) !== undefined) parts.push(zeroName)
  } else {
    parts.push(zeroName)
    const inWord = 32 / bits
    checkDims(files, zeroName, entryOf(files, zeroName, 'I32').shape, [Math.ceil(out / inWord), groups])
  }
  const type = `compressed-tensors (${bits} bits)`
  return tensorOfRows(files, {
    type,
    bits,
    dims: [out, columns],
    integers,
    signed: !packed,
    scales,
    groups,
    parts,
    ...(!symmetric && { zeros: zerosOf(files, zeroName, bits, groups) })
  })
}

/** Zero points [start, end) x groups, packed along the outputs. */
function zerosOf(
  files: TensorFiles,
  name: string,
  bits: 4 | 8,
  groups: number
): (start: number, end: number) => Promise<Float32Array> {
  const inWord = 32 / bits
  let all: Promise<Uint32Array> | undefined
  return async (start, end) => {
    all ??= allWords(files, name)
    const words = await all
    return Float32Array.from({ length: (end - start) * groups }, (_, i) => {
      const row = start + Math.floor(i / groups)
      const word = words[Math.floor(row / inWord) * groups + (i % groups)]
      if (word === undefined) throw new CheckpointError(files.dir, `tensor ${name} ends before row ${row}`)
      return ((word >>> ((row % inWord) * bits)) & (2 ** bits - 1)) - 2 ** (bits - 1)
    })
  }
}
