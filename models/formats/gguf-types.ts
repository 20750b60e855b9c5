import { GGMLQuantizationType } from '@huggingface/gguf'
import type { Quantization } from '../manifest.ts'
import { allocateBlocks, type PackedRows } from '../quantize.ts'
import { halfValues, toFloat32 } from './floats.ts'
import { type AffineType, affineFloats, packAffine, Q4_1, Q4_K, Q5_1, Q5_K } from './gguf-affine.ts'
import { packIq4Nl, packIq4Xs, packMxfp4 } from './gguf-codebook.ts'
import { packIq1M, packIq1S, packIq2S, packIq2Xs, packIq2Xxs, packIq3S, packIq3Xxs } from './gguf-lattice.ts'
import { packQ2K, packQ3K } from './gguf-low-bits.ts'
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

const blocks = (
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
  [T.Q4_0]: blocks('Q4_0', 32, 18, { bits: 4, blockSize: 32 }, packQ4_0),
  [T.Q5_0]: blocks('Q5_0', 32, 22, { bits: 8, blockSize: 32 }, packQ5_0),
  [T.Q8_0]: blocks('Q8_0', 32, 34, { bits: 8, blockSize: 32 }, packQ8_0),
  [T.Q6_K]: blocks('Q6_K', 256, 210, { bits: 8, blockSize: 16 }, packQ6K),
  [T.Q4_1]: affine('Q4_1', Q4_1),
  [T.Q5_1]: affine('Q5_1', Q5_1),
  [T.Q4_K]: affine('Q4_K', Q4_K),
  [T.Q5_K]: affine('Q5_K', Q5_K),
  [T.Q2_K]: blocks('Q2_K', 256, 84, { bits: 4, blockSize: 16, shifted: true }, packQ2K),
  [T.Q3_K]: blocks('Q3_K', 256, 110, { bits: 4, blockSize: 16 }, packQ3K),
  [T.IQ4_NL]: blocks('IQ4_NL', 32, 18, { bits: 8, blockSize: 32 }, packIq4Nl),
  [T.IQ4_XS]: blocks('IQ4_XS', 256, 136, { bits: 8, blockSize: 32 }, packIq4Xs),
  [T.MXFP4]: blocks('MXFP4', 32, 17, { bits: 8, blockSize: 32 }, packMxfp4),
  [T.IQ3_S]: blocks('IQ3_S', 256, 110, { bits: 4, blockSize: 32, shifted: true }, packIq3S),
  [T.IQ3_XXS]: blocks('IQ3_XXS', 256, 98, { bits: 8, blockSize: 32 }, packIq3Xxs),
  [T.IQ2_S]: blocks('IQ2_S', 256, 82, { bits: 8, blockSize: 16 }, packIq2S),
  [T.IQ2_XS]: blocks('IQ2_XS', 256, 74, { bits: 8, blockSize: 16 }, packIq2Xs),
  [T.IQ2_XXS]: blocks('IQ2_XXS', 256, 66, { bits: 8, blockSize: 32 }, packIq2Xxs),
  [T.IQ1_S]: blocks('IQ1_S', 256, 50, { bits: 8, blockSize: 32 }, packIq1S),
  [T.IQ1_M]: blocks('IQ1_M', 256, 56, { bits: 8, blockSize: 16 }, packIq1M)
}

/** Types of ggml that the library has no name for yet. */
const NEWER: Partial<Record<number, string>> = { 40: 'NVFP4' }

export function ggufTypeName(type: number): string {
  return T[type] ?? NEWER[type] ?? String(type)
}
