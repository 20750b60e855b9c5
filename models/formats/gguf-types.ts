import { GGMLQuantizationType } from '@huggingface/gguf'
import type { Quantization } from '../manifest.ts'
import { allocateBlocks, type PackedRows } from '../quantize.ts'
import { halfValues, toFloat32 } from './floats.ts'
import { type AffineType, affineFloats, packAffine, Q4_1, Q4_K, Q5_1, Q5_K } from './gguf-affine.ts'
import { packQ4_0, packQ5_0, packQ6K, packQ8_0, unpack } from './gguf-symmetric.ts'

/** How a GGUF tensor type keeps its values: blocks along a row. */
export interface GgufType {
  name: string
  blockElements: number
  blockBytes: number
  /** The project's own blocks that hold the same values exactly; absent for floats. */
  packing?: Quantization
  /** `count` blocks as the project's own; only with `packing`. */
  pack?: (bytes: Uint8Array, count: number, into: PackedRows) => void
  /** `count` blocks as floats. */
  floats: (bytes: Uint8Array, count: number) => Float32Array
}

const symmetric = (
  name: string,
  blockElements: number,
  blockBytes: number,
  packing: Quantization,
  pack: NonNullable<GgufType['pack']>
): GgufType => ({
  name,
  blockElements,
  blockBytes,
  packing,
  pack,
  floats: (bytes, count) => {
    const packed = allocateBlocks((count * blockElements) / packing.blockSize, packing)
    pack(bytes, count, packed)
    return unpack(packed, packing)
  }
})

const affine = (name: string, type: AffineType): GgufType => ({
  name,
  blockElements: type.blockElements,
  blockBytes: type.blockBytes,
  packing: { bits: type.bits === 4 ? 4 : 8, blockSize: 32, shifted: true },
  pack: (bytes, count, into) => packAffine(type, bytes, halfValues(), count, into),
  floats: (bytes, count) => affineFloats(type, bytes, halfValues(), count)
})

const float = (name: 'F32' | 'F16' | 'BF16', blockBytes: number): GgufType => ({
  name,
  blockElements: 1,
  blockBytes,
  floats: bytes => toFloat32(bytes, name)
})

const T = GGMLQuantizationType

/** The types that are read, by their number in the file. */
export const GGUF_TYPES: Record<number, GgufType> = {
  [T.F32]: float('F32', 4),
  [T.F16]: float('F16', 2),
  [T.BF16]: float('BF16', 2),
  [T.Q4_0]: symmetric('Q4_0', 32, 18, { bits: 4, blockSize: 32 }, packQ4_0),
  [T.Q5_0]: symmetric('Q5_0', 32, 22, { bits: 8, blockSize: 32 }, packQ5_0),
  [T.Q8_0]: symmetric('Q8_0', 32, 34, { bits: 8, blockSize: 32 }, packQ8_0),
  [T.Q6_K]: symmetric('Q6_K', 256, 210, { bits: 8, blockSize: 16 }, packQ6K),
  [T.Q4_1]: affine('Q4_1', Q4_1),
  [T.Q5_1]: affine('Q5_1', Q5_1),
  [T.Q4_K]: affine('Q4_K', Q4_K),
  [T.Q5_K]: affine('Q5_K', Q5_K)
}

export function ggufTypeName(type: number): string {
  return T[type] ?? String(type)
}
