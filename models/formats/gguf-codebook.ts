import type { PackedRows } from '../quantize.ts'
import { halfAt, halfValues } from './floats.ts'

/**
 * GGUF blocks of 4 bits whose values are not evenly spaced: a number says which of 16 integers is meant. The project's
 * own blocks of 8 bits hold those integers as they are. Formulas: ggml-quants.c, dequantize_row_*.
 */

/** ggml-common.h, kvalues_iq4nl. */
const NON_LINEAR = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
/** The values of e2m1 (OCP Microscaling Formats 1.0, 5.3.3), doubled: ggml-common.h, kvalues_mxfp4. */
export const DOUBLED_E2M1 = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12]

const NON_LINEAR_BYTES = Uint8Array.from(NON_LINEAR, value => value + 128)
const E2M1_BYTES = Uint8Array.from(DOUBLED_E2M1, value => value + 128)

/** IQ4_NL: float16 d, then 16 bytes as in Q4_0; d times the value that each half names. */
export function packIq4Nl(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  for (let block = 0, from = 0; block < count; block++, from += 18) {
    scales[block] = halfAt(bytes, half, from)
    readHalves(bytes, from + 2, NON_LINEAR_BYTES, weight, block * 32)
  }
}

/**
 * IQ4_XS: of 8 blocks of 32 values float16 d, 2 bytes with the upper 2 bits of their scales, 4 bytes with the lower 4
 * bits, then 16 bytes each; d (scale - 32) times the value. d (scale - 32) has at most 17 significant bits.
 */
export function packIq4Xs(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  for (let block = 0, from = 0; block < count; block++, from += 136) {
    const d = halfAt(bytes, half, from)
    const high = bytes[from + 2]! | (bytes[from + 3]! << 8)
    for (let sub = 0; sub < 8; sub++) {
      const low = (bytes[from + 4 + (sub >> 1)]! >> ((sub & 1) * 4)) & 15
      const scale = low | (((high >> (2 * sub)) & 3) << 4)
      scales[block * 8 + sub] = d * (scale - 32)
      readHalves(bytes, from + 8 + sub * 16, NON_LINEAR_BYTES, weight, block * 256 + sub * 32)
    }
  }
}

/** MXFP4: a byte e, 16 bytes as in Q4_0; 2^(e - 127) times the e2m1 value that each half names. */
export function packMxfp4(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  for (let block = 0, from = 0; block < count; block++, from += 17) {
    scales[block] = e8m0(bytes[from]!) / 2
    readHalves(bytes, from + 1, E2M1_BYTES, weight, block * 32)
  }
}

/** A power of two in 8 bits (OCP Microscaling Formats 1.0, 5.4.1); 255 is no number. */
export function e8m0(byte: number): number {
  return byte === 255 ? NaN : 2 ** (byte - 127)
}

/** 16 bytes: value j in the low half of byte j, value j + 16 in its high half. */
function readHalves(
  bytes: Uint8Array,
  from: number,
  values: Uint8Array,
  weight: Uint8Array,
  to: number
): void {
  for (let j = 0; j < 16; j++) {
    const byte = bytes[from + j]!
    weight[to + j] = values[byte & 15]!
    weight[to + 16 + j] = values[byte >> 4]!
  }
}
