import type { PackedRows } from '../quantize.ts'
import { halfAt, halfValues } from './floats.ts'

/**
 * K-quants of 2 and 3 bits as the project's own blocks of 4 bits around 8, 16 values each: the same integers and
 * scales. Formulas: ggml-quants.c, dequantize_row_*.
 */

/**
 * Q2_K: of 256 values 16 bytes of 4-bit scales and minima, 64 bytes of bit pairs, float16 d and dmin;
 * d scale q - dmin minimum.
 */
export function packQ2K(bytes: Uint8Array, count: number, { weight, scales, shifts }: PackedRows): void {
  const half = halfValues()
  for (let block = 0, from = 0; block < count; block++, from += 84) {
    const d = halfAt(bytes, half, from + 80)
    const minimum = halfAt(bytes, half, from + 82)
    for (let i = 0; i < 16; i++) {
      const byte = bytes[from + i]!
      scales[block * 16 + i] = d * (byte & 15)
      shifts![block * 16 + i] = -minimum * (byte >> 4)
    }
    for (let i = 0; i < 256; i += 2) {
      const at = from + 16 + (i >> 7) * 32 + (i & 31)
      const shift = ((i >> 5) & 3) * 2
      weight[(block * 256 + i) >> 1] =
        (8 + ((bytes[at]! >> shift) & 3)) | ((8 + ((bytes[at + 1]! >> shift) & 3)) << 4)
    }
  }
}

/**
 * Q3_K: of 256 values 32 bytes with the third bits (bit i / 32 of byte i % 32; 4 is taken off where it is not set), 64
 * bytes of bit pairs, 16 scales of 6 bits in 12 bytes, float16 d; d (scale - 32) q with q in -4..3.
 */
export function packQ3K(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  for (let block = 0, from = 0; block < count; block++, from += 110) {
    const d = halfAt(bytes, half, from + 108)
    for (let i = 0; i < 16; i++) {
      const low = (bytes[from + 96 + (i & 7)]! >> (i < 8 ? 0 : 4)) & 15
      const high = (bytes[from + 104 + (i & 3)]! >> (2 * (i >> 2))) & 3
      scales[block * 16 + i] = d * ((low | (high << 4)) - 32)
    }
    for (let i = 0; i < 256; i += 2) {
      weight[(block * 256 + i) >> 1] = threeBits(bytes, from, i) | (threeBits(bytes, from, i + 1) << 4)
    }
  }
}

/** Value i of a block of Q3_K, around 8. */
function threeBits(bytes: Uint8Array, from: number, i: number): number {
  const pair = (bytes[from + 32 + (i >> 7) * 32 + (i & 31)]! >> (((i >> 5) & 3) * 2)) & 3
  const third = (bytes[from + (i & 31)]! >> (i >> 5)) & 1
  return 4 + pair + 4 * third
}
