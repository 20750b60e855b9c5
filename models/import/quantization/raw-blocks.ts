import { unpack, widen } from '../../formats/gguf-symmetric.ts'
import type { Quantization } from '../../manifest.ts'
import { allocateBlocks, type PackedRows } from '../../quantize.ts'
import type { RawRows } from '../weights.ts'

/** `count` blocks that `fill` writes in the project's own form. */
export function rawBlocks(own: Quantization, count: number, fill: (into: PackedRows) => void): RawRows {
  const filled = () => {
    const packed = allocateBlocks(count, own)
    fill(packed)
    return packed
  }
  return {
    floats: () => unpack(filled(), own),
    pack: (packing, into) => {
      const same =
        own.bits === packing.bits && own.blockSize === packing.blockSize && own.shifted === packing.shifted
      if (same) fill(into)
      else widen(filled(), own, packing, into)
    }
  }
}

/** The largest block that the project has whose weights share a scale where `group` of a row's do. */
export function blockSizeOf(group: number): number | undefined {
  return [256, 128, 64, 32, 16].find(size => group % size === 0)
}
