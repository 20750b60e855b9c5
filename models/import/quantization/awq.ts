import { CheckpointError } from '../../errors.ts'
import { blockSizeOf, rawBlocks } from './raw-blocks.ts'
import {
  allFloats,
  allWords,
  checkDims,
  entryOf,
  type QuantizedTensor,
  type TensorFiles
} from './tensor-files.ts'

/** Where the 8 integers of a word stand, the lowest bits first: outputs 0, 2, 4, 6, 1, 3, 5, 7 (AutoAWQ's gemm). */
const PLACE_OF_OUTPUT = [0, 4, 1, 5, 2, 6, 3, 7]

/**
 * A projection of AWQ: `NAME.qweight` (in, out / 8) has the integers of 8 outputs a word; of each group along `in`,
 * `NAME.scales` (groups, out) and `NAME.qzeros` (groups, out / 8). The value is scale (q - zero).
 */
export function awqTensor(files: TensorFiles, module: string, groupSize: number): QuantizedTensor {
  const [name, zeros, scales] = ['qweight', 'qzeros', 'scales'].map(part => `${module}.${part}`) as [
    string,
    string,
    string
  ]
  const [columns = 0, wordsInRow = 0] = entryOf(files, name, 'I32').shape
  const out = wordsInRow * 8
  const group = groupSize === -1 ? columns : groupSize
  const blockSize = blockSizeOf(group)
  if (blockSize === undefined || columns % group !== 0) {
    throw new CheckpointError(
      files.dir,
      `${module}: groups of ${group} do not divide ${columns} inputs into blocks`
    )
  }
  const groups = columns / group
  checkDims(files, scales, entryOf(files, scales, 'F32', 'F16', 'BF16').shape, [groups, out])
  checkDims(files, zeros, entryOf(files, zeros, 'I32').shape, [groups, wordsInRow])
  const packing = { bits: 4, blockSize, shifted: true } as const
  const blocksInRow = columns / blockSize
  return {
    dims: [out, columns],
    type: 'AWQ (4 bits)',
    parts: [name, zeros, scales],
    packing,
    open: async () => {
      const words = await allWords(files, name)
      const zeroWords = await allWords(files, zeros)
      const allScales = await allFloats(files, scales)
      const integer = (of: Uint32Array, line: number, row: number) =>
        (of[line * wordsInRow + (row >> 3)]! >>> (PLACE_OF_OUTPUT[row & 7]! * 4)) & 15
      return (start, end) =>
        rawBlocks(packing, (end - start) * blocksInRow, into => {
          for (let row = start; row < end; row++) {
            const first = ((row - start) * columns) / 2
            for (let column = 0; column < columns; column += 2) {
              into.weight[first + column / 2] =
                integer(words, column, row) | (integer(words, column + 1, row) << 4)
            }
            for (let block = 0; block < blocksInRow; block++) {
              const of = Math.floor((block * blockSize) / group)
              const scale = allScales[of * out + row]!
              const at = (row - start) * blocksInRow + block
              into.scales[at] = scale
              into.shifts![at] = scale * (8 - integer(zeroWords, of, row))
            }
          }
        })
    }
  }
}
