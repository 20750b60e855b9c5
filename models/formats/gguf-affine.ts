import type { PackedRows } from '../quantize.ts'
import { halfAt } from './floats.ts'

/**
 * GGUF blocks with a minimum each, d q + m or d q - m, turned into the project's own shifted ones: the same integers in
 * another order, the same scales, and the minimum as shift. Formulas: ggml-quants.c, dequantize_row_*.
 */

/** What a few blocks of 32 values hold: value = scale * q + minimum. */
interface AffineBlocks {
  /** Not negative. */
  q: Uint8Array
  scales: Float32Array
  minima: Float32Array
}

/** How one type's block is read. */
export interface AffineType {
  blockElements: number
  blockBytes: number
  /** Bits of q. */
  bits: 4 | 5
  read: (bytes: Uint8Array, from: number, half: Float32Array, into: AffineBlocks) => void
}

/** float16 d and m, 16 bytes of halves as in Q4_0; d q + m. */
export const Q4_1: AffineType = { blockElements: 32, blockBytes: 20, bits: 4, read: readQ4_1 }
/** float16 d and m, 4 bytes of fifth bits, 16 bytes of halves; d q + m. */
export const Q5_1: AffineType = { blockElements: 32, blockBytes: 24, bits: 5, read: readQ5_1 }
/** float16 d and dmin, 12 bytes of 6-bit scales and minima of 8 blocks of 32, 128 bytes of halves. */
export const Q4_K: AffineType = { blockElements: 256, blockBytes: 144, bits: 4, read: readQ4K }
/** As Q4_K, with 32 bytes of fifth bits (bit `sub` of byte l) before the halves. */
export const Q5_K: AffineType = { blockElements: 256, blockBytes: 176, bits: 5, read: readQ5K }

/** `count` blocks as floats. */
export function affineFloats(
  type: AffineType,
  bytes: Uint8Array,
  half: Float32Array,
  count: number
): Float32Array {
  const values = new Float32Array(count * type.blockElements)
  const blocks = allocate(type)
  for (let block = 0; block < count; block++) {
    type.read(bytes, block * type.blockBytes, half, blocks)
    const start = block * type.blockElements
    for (let i = 0; i < type.blockElements; i++) {
      values[start + i] = blocks.scales[i >> 5]! * blocks.q[i]! + blocks.minima[i >> 5]!
    }
  }
  return values
}

/**
 * `count` blocks as the project's own of 32 values: 4 bits around 8, or 5 bits in bytes around 128. The shift is rounded
 * to float32, as dequantising does with every value.
 */
export function packAffine(
  type: AffineType,
  bytes: Uint8Array,
  half: Float32Array,
  count: number,
  { weight, scales, shifts }: PackedRows
): void {
  const { blockElements } = type
  const blocks = allocate(type)
  const center = type.bits === 4 ? 8 : 0
  for (let block = 0, at = 0; block < count; block++) {
    type.read(bytes, block * type.blockBytes, half, blocks)
    for (let i = 0; i < blocks.scales.length; i++, at++) {
      scales[at] = blocks.scales[i]!
      shifts![at] = center * blocks.scales[i]! + blocks.minima[i]!
    }
    const start = block * blockElements
    if (type.bits === 5) {
      for (let i = 0; i < blockElements; i++) weight[start + i] = blocks.q[i]! + 128
    } else {
      for (let i = 0; i < blockElements; i += 2)
        weight[(start + i) >> 1] = blocks.q[i]! | (blocks.q[i + 1]! << 4)
    }
  }
}

function allocate({ blockElements }: AffineType): AffineBlocks {
  const count = blockElements / 32
  return {
    q: new Uint8Array(blockElements),
    scales: new Float32Array(count),
    minima: new Float32Array(count)
  }
}

function readQ4_1(bytes: Uint8Array, from: number, half: Float32Array, into: AffineBlocks): void {
  into.scales[0] = halfAt(bytes, half, from)
  into.minima[0] = halfAt(bytes, half, from + 2)
  for (let j = 0; j < 16; j++) {
    const byte = bytes[from + 4 + j]!
    into.q[j] = byte & 15
    into.q[16 + j] = byte >> 4
  }
}

function readQ5_1(bytes: Uint8Array, from: number, half: Float32Array, into: AffineBlocks): void {
  into.scales[0] = halfAt(bytes, half, from)
  into.minima[0] = halfAt(bytes, half, from + 2)
  const fifth =
    bytes[from + 4]! | (bytes[from + 5]! << 8) | (bytes[from + 6]! << 16) | (bytes[from + 7]! << 24)
  for (let j = 0; j < 16; j++) {
    const byte = bytes[from + 8 + j]!
    into.q[j] = (byte & 15) | (((fifth >>> j) & 1) << 4)
    into.q[16 + j] = (byte >> 4) | (((fifth >>> (j + 16)) & 1) << 4)
  }
}

function readQ4K(bytes: Uint8Array, from: number, half: Float32Array, into: AffineBlocks): void {
  for (let sub = 0; sub < 8; sub++) {
    readScaleAndMinimum(bytes, from, half, sub, into)
    const halves = from + 16 + (sub >> 1) * 32
    const shift = (sub & 1) * 4
    for (let l = 0; l < 32; l++) into.q[sub * 32 + l] = (bytes[halves + l]! >> shift) & 15
  }
}

function readQ5K(bytes: Uint8Array, from: number, half: Float32Array, into: AffineBlocks): void {
  for (let sub = 0; sub < 8; sub++) {
    readScaleAndMinimum(bytes, from, half, sub, into)
    const halves = from + 48 + (sub >> 1) * 32
    const shift = (sub & 1) * 4
    for (let l = 0; l < 32; l++) {
      const fifth = (bytes[from + 16 + l]! >> sub) & 1
      into.q[sub * 32 + l] = ((bytes[halves + l]! >> shift) & 15) | (fifth << 4)
    }
  }
}

/** ggml-quants.c, get_scale_min_k4; both products fit float32 exactly (11 bits times 6). */
function readScaleAndMinimum(
  bytes: Uint8Array,
  from: number,
  half: Float32Array,
  sub: number,
  into: AffineBlocks
): void {
  const at = (i: number) => bytes[from + 4 + i]!
  const scale = sub < 4 ? at(sub) & 63 : (at(sub + 4) & 15) | ((at(sub - 4) >> 6) << 4)
  const minimum = sub < 4 ? at(sub + 4) & 63 : (at(sub + 4) >> 4) | ((at(sub) >> 6) << 4)
  into.scales[sub] = halfAt(bytes, half, from) * scale
  into.minima[sub] = -halfAt(bytes, half, from + 2) * minimum
}
