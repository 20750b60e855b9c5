import { CheckpointError } from '../../errors.ts'
import { tensorOfRows } from './rows-of-integers.ts'
import { checkDims, entryOf, type QuantizedTensor, type TensorFiles } from './tensor-files.ts'

/**
 * A projection of MLX: `NAME.weight` (out, words) with integers along a row, the lowest bits first; of each group,
 * `NAME.scales` and `NAME.biases` (out, groups). The value is scale q + bias.
 */
export function mlxTensor(files: TensorFiles, module: string, groupSize: number): QuantizedTensor {
  const [integers, scales, biases] = ['weight', 'scales', 'biases'].map(part => `${module}.${part}`) as [
    string,
    string,
    string
  ]
  const [out = 0, words = 0] = entryOf(files, integers, 'U32', 'I32').shape
  const [, groups = 0] = entryOf(files, scales, 'F32', 'F16', 'BF16').shape
  const columns = groups * groupSize
  const bits = (words * 32) / columns
  if (bits !== 4 && bits !== 8) {
    throw new CheckpointError(
      files.dir,
      `${module} has ${bits} bits a weight in groups of ${groupSize}; 4 and 8 are read`
    )
  }
  for (const name of [scales, biases]) {
    checkDims(files, name, entryOf(files, name, 'F32', 'F16', 'BF16').shape, [out, groups])
  }
  const type = `MLX (${bits} bits)`
  const parts = [integers, scales, biases]
  return tensorOfRows(files, { type, bits, dims: [out, columns], integers, scales, groups, biases, parts })
}
