import { CheckpointError } from '../../errors.ts'
import { DOUBLED_E2M1, e8m0 } from '../../formats/gguf-codebook.ts'
import { rawBlocks } from './raw-blocks.ts'
import { checkDims, entryOf, type QuantizedTensor, type TensorFiles } from './tensor-files.ts'

const BYTES = Uint8Array.from(DOUBLED_E2M1, value => value + 128)

/**
 * Experts of gpt-oss: `NAME_blocks` (experts, out, in / 32, 16), two values of e2m1 a byte, the lower bits first, and
 * `NAME_scales` (experts, out, in / 32), a power of two for each 32.
 */
export function mxfp4Tensor(files: TensorFiles, name: string): QuantizedTensor {
  const [blocks, scales] = [`${name}_blocks`, `${name}_scales`] as const
  const { shape } = entryOf(files, blocks, 'U8')
  const [experts = 0, out = 0, groups = 0, bytes] = shape
  if (shape.length !== 4 || bytes !== 16) {
    throw new CheckpointError(files.dir, `tensor ${blocks} has shape (${shape.join(', ')}), not blocks of 32`)
  }
  checkDims(files, scales, entryOf(files, scales, 'U8').shape, [experts, out, groups])
  const packing = { bits: 8, blockSize: 32 } as const
  return {
    dims: [experts, out, groups * 32],
    type: 'MXFP4',
    parts: [blocks, scales],
    packing,
    open: async () => async (start, end) => {
      const pairs = await files.readBytes(blocks, start * groups * 16, end * groups * 16)
      const exponents = await files.readBytes(scales, start * groups, end * groups)
      return rawBlocks(packing, (end - start) * groups, into => {
        for (let i = 0; i < pairs.length; i++) {
          into.weight[2 * i] = BYTES[pairs[i]! & 15]!
          into.weight[2 * i + 1] = BYTES[pairs[i]! >> 4]!
        }
        // The values are doubled.
        for (let i = 0; i < exponents.length; i++) into.scales[i] = e8m0(exponents[i]!) / 2
      })
    }
  }
}
