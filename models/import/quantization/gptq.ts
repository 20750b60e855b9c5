import { CheckpointError } from '../../errors.ts'
import type { PackedRows } from '../../quantize.ts'
import type { QuantizationScheme } from './config.ts'
import { blockSizeOf, rawBlocks } from './raw-blocks.ts'
import {
  allFloats,
  allWords,
  checkDims,
  entryOf,
  type QuantizedTensor,
  type TensorFiles
} from './tensor-files.ts'

type Scheme = Extract<QuantizationScheme, { method: 'gptq' }>

/** The middle of the integers, which is what a block without a shift is counted from. */
const middle = (bits: 4 | 8) => 2 ** (bits - 1)

/** What a projection's rows are made from. */
interface Contents {
  words: Uint32Array
  zeros: Uint32Array
  scales: Float32Array
}

/**
 * A projection of GPTQ: `NAME.qweight` (in / k, out) has k integers along `in` a word, the lowest bits first; of each
 * group along `in`, `NAME.scales` (groups, out) and `NAME.qzeros` (groups, out / k). The value is scale (q - zero), where
 * the first version of the format writes zero - 1. `NAME.g_idx` (in) says which group an input belongs to.
 */
export async function gptqTensor(
  files: TensorFiles,
  module: string,
  scheme: Scheme
): Promise<QuantizedTensor> {
  const { bits, symmetric } = scheme
  const inWord = 32 / bits
  const [name, zeros, scales, order] = ['qweight', 'qzeros', 'scales', 'g_idx'].map(
    part => `${module}.${part}`
  ) as [string, string, string, string]
  const [packedRows = 0, out = 0] = entryOf(files, name, 'I32').shape
  const columns = packedRows * inWord
  const [groups = 0] = entryOf(files, scales, 'F32', 'F16', 'BF16').shape
  checkDims(files, scales, files.entry(scales)!.shape, [groups, out])
  checkDims(files, zeros, entryOf(files, zeros, 'I32').shape, [groups, out / inWord])
  const group = groupOf(files, module, scheme, columns, groups)
  const parts = [name, zeros, scales]
  const beside = files.entry(order) === undefined ? [] : [order]
  const open = async (): Promise<Contents> => ({
    words: await allWords(files, name),
    zeros: await allWords(files, zeros),
    scales: await allFloats(files, scales)
  })
  const dims = [out, columns]
  const groupsOfInputs = files.entry(order) === undefined ? undefined : await allWords(files, order)
  if (groupsOfInputs !== undefined) {
    checkDims(files, order, [groupsOfInputs.length], [columns])
    if (groupsOfInputs.some(of => of >= groups)) {
      throw new CheckpointError(files.dir, `tensor ${order} names a group that is not there`)
    }
    if (groupsOfInputs.some((of, i) => of !== Math.floor(i / group))) {
      // Inputs of one group lie anywhere in a row, so no blocks along it share a scale.
      const floats = (contents: Contents, start: number, end: number) =>
        scattered(contents, scheme, out, groupsOfInputs, start, end)
      return {
        dims,
        type: `GPTQ (${bits} bits, in the order of activations)`,
        parts,
        beside,
        packing: undefined,
        open: async () => {
          const contents = await open()
          return (start, end) => ({
            floats: () => floats(contents, start, end),
            pack: () => {
              throw new Error(`${module} has no blocks`)
            }
          })
        }
      }
    }
  }
  const blockSize = blockSizeOf(group)
  if (blockSize === undefined) {
    throw new CheckpointError(files.dir, `${module}: groups of ${group} are no whole blocks of 16`)
  }
  const packing = { bits, blockSize, ...(!symmetric && { shifted: true as const }) }
  return {
    dims,
    type: `GPTQ (${bits} bits)`,
    parts,
    beside,
    packing,
    open: async () => {
      const contents = await open()
      return (start, end) =>
        rawBlocks(packing, ((end - start) * columns) / blockSize, into => {
          writeBlocks(contents, scheme, { out, columns, group, blockSize }, start, end, into, files, module)
        })
    }
  }
}

/** Inputs of one group. */
function groupOf(
  files: TensorFiles,
  module: string,
  { groupSize }: Scheme,
  columns: number,
  groups: number
): number {
  const group = groupSize === -1 ? columns : groupSize
  if (groups !== Math.ceil(columns / group)) {
    throw new CheckpointError(
      files.dir,
      `${module} has ${groups} groups for ${columns} inputs, config.json says groups of ${groupSize}`
    )
  }
  return group
}

function zeroOf(
  { zeros }: Contents,
  { bits, zeroOffset }: Scheme,
  out: number,
  group: number,
  row: number
): number {
  const inWord = 32 / bits
  const word = zeros[group * (out / inWord) + Math.floor(row / inWord)]!
  return ((word >>> ((row % inWord) * bits)) & (2 ** bits - 1)) + zeroOffset
}

function writeBlocks(
  contents: Contents,
  scheme: Scheme,
  { out, columns, group, blockSize }: { out: number; columns: number; group: number; blockSize: number },
  start: number,
  end: number,
  { weight, scales, shifts }: PackedRows,
  files: TensorFiles,
  module: string
): void {
  const inWord = 32 / scheme.bits
  const wordsInRow = columns / inWord
  // The file's words along `in` have the order of ours along a row.
  const words = new Uint32Array(weight.buffer, weight.byteOffset, (end - start) * wordsInRow)
  const blocksInRow = columns / blockSize
  for (let row = start; row < end; row++) {
    const to = (row - start) * wordsInRow
    for (let i = 0; i < wordsInRow; i++) words[to + i] = contents.words[i * out + row]!
    for (let block = 0; block < blocksInRow; block++) {
      const of = Math.floor((block * blockSize) / group)
      const scale = contents.scales[of * out + row]!
      const zero = zeroOf(contents, scheme, out, of, row)
      const at = (row - start) * blocksInRow + block
      scales[at] = scale
      if (shifts !== undefined) shifts[at] = scale * (middle(scheme.bits) - zero)
      else if (zero !== middle(scheme.bits)) {
        throw new CheckpointError(
          files.dir,
          `${module} is said to be symmetric, but has the zero ${zero} and not ${middle(scheme.bits)}`
        )
      }
    }
  }
}

/** Values whose groups follow an order of their own. */
function scattered(
  contents: Contents,
  scheme: Scheme,
  out: number,
  groups: Uint32Array,
  start: number,
  end: number
): Float32Array {
  const { bits } = scheme
  const inWord = 32 / bits
  const columns = groups.length
  const values = new Float32Array((end - start) * columns)
  for (let row = start, at = 0; row < end; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const word = contents.words[Math.floor(column / inWord) * out + row]!
      const q = (word >>> ((column % inWord) * bits)) & (2 ** bits - 1)
      const group = groups[column]!
      values[at] = contents.scales[group * out + row]! * (q - zeroOf(contents, scheme, out, group, row))
    }
  }
  return values
}
