import type { PackedRows } from '../quantize.ts'
import { halfAt, halfValues } from './floats.ts'
import { GRIDS } from './gguf-grids.ts'

/**
 * GGUF types of 1 to 3 bits: a number names a point of a grid, that is the sizes of four or eight values along a row at
 * once; signs are apart. All sizes are small integers, so the project's own blocks hold them exactly. Formulas:
 * ggml-quants.c, dequantize_row_iq*; every product of d and a scale fits float32.
 */

/** The integers of a grid's points, one behind the other. */
function points(grid: keyof typeof GRIDS, bits: 2 | 4, values: readonly number[]): Int8Array {
  const packed = Buffer.from(GRIDS[grid], 'base64')
  const inByte = 8 / bits
  return Int8Array.from(
    { length: packed.length * inByte },
    (_, i) => values[(packed[Math.floor(i / inByte)]! >> ((i % inByte) * bits)) & (2 ** bits - 1)]!
  )
}

const grids = new Map<string, Int8Array>()

/** Made when a file first needs them. */
function once(grid: keyof typeof GRIDS, bits: 2 | 4, values: readonly number[]): Int8Array {
  const made = grids.get(grid) ?? points(grid, bits, values)
  grids.set(grid, made)
  return made
}

const SIZES_IQ2 = [8, 25, 43]
const SIZES_IQ3_XXS = [4, 12, 20, 28, 36, 44, 52, 62]
const SIZES_IQ3_S = [1, 3, 5, 7, 9, 11, 13, 15]
const SIZES_IQ1 = [-1, 0, 1]

/** ggml-common.h, ksigns_iq2xs: seven signs, and an eighth that makes the number of minus signs even. */
function eightSigns(seven: number): number {
  let parity = seven
  parity ^= parity >> 4
  parity ^= parity >> 2
  parity ^= parity >> 1
  return seven | ((parity & 1) << 7)
}

/** Writes `count` values of a point into bytes around 128; bit i of `signs` makes value i negative. */
function writePoint(
  grid: Int8Array,
  point: number,
  count: 4 | 8,
  signs: number,
  weight: Uint8Array,
  to: number
): void {
  for (let i = 0; i < count; i++) {
    const size = grid[point * count + i]!
    weight[to + i] = 128 + ((signs >> i) & 1 ? -size : size)
  }
}

/** IQ2_XXS: float16 d, then of every 32 values 4 points of 8 bits, 4 times 7 signs and a scale of 4 bits. */
export function packIq2Xxs(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  const grid = once('IQ2_XXS', 2, SIZES_IQ2)
  for (let block = 0, from = 0; block < count; block++, from += 66) {
    const d = halfAt(bytes, half, from)
    for (let sub = 0; sub < 8; sub++) {
      const at = from + 2 + sub * 8
      const word = wordAt(bytes, at + 4)
      scales[block * 8 + sub] = d * (0.5 + (word >>> 28)) * 0.25
      for (let l = 0; l < 4; l++) {
        const signs = eightSigns((word >>> (7 * l)) & 127)
        writePoint(grid, bytes[at + l]!, 8, signs, weight, block * 256 + sub * 32 + l * 8)
      }
    }
  }
}

/** IQ2_XS: float16 d, 32 times 9 bits of a point and 7 signs, 16 scales of 4 bits for 16 values each. */
export function packIq2Xs(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  const grid = once('IQ2_XS', 2, SIZES_IQ2)
  for (let block = 0, from = 0; block < count; block++, from += 74) {
    fourBitScales(bytes, from + 66, halfAt(bytes, half, from), scales, block * 16)
    for (let l = 0; l < 32; l++) {
      const word = bytes[from + 2 + 2 * l]! | (bytes[from + 3 + 2 * l]! << 8)
      writePoint(grid, word & 511, 8, eightSigns(word >> 9), weight, block * 256 + l * 8)
    }
  }
}

/** IQ2_S: float16 d, 32 bytes of points, 32 of signs, 8 with 2 more bits of each point, 16 scales as in IQ2_XS. */
export function packIq2S(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  const grid = once('IQ2_S', 2, SIZES_IQ2)
  for (let block = 0, from = 0; block < count; block++, from += 82) {
    fourBitScales(bytes, from + 74, halfAt(bytes, half, from), scales, block * 16)
    for (let l = 0; l < 32; l++) {
      const high = (bytes[from + 66 + (l >> 2)]! >> (2 * (l & 3))) & 3
      const point = bytes[from + 2 + l]! | (high << 8)
      writePoint(grid, point, 8, bytes[from + 34 + l]!, weight, block * 256 + l * 8)
    }
  }
}

/** IQ3_XXS: float16 d, 64 points of 8 bits, then of every 32 values 4 times 7 signs and a scale of 4 bits. */
export function packIq3Xxs(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  const grid = once('IQ3_XXS', 4, SIZES_IQ3_XXS)
  for (let block = 0, from = 0; block < count; block++, from += 98) {
    const d = halfAt(bytes, half, from)
    for (let sub = 0; sub < 8; sub++) {
      const word = wordAt(bytes, from + 66 + sub * 4)
      scales[block * 8 + sub] = d * (0.5 + (word >>> 28)) * 0.5
      for (let l = 0; l < 8; l++) {
        const signs = eightSigns((word >>> (7 * (l >> 1))) & 127) >> ((l & 1) * 4)
        writePoint(grid, bytes[from + 2 + sub * 8 + l]!, 4, signs, weight, block * 256 + sub * 32 + l * 4)
      }
    }
  }
}

/**
 * IQ3_S: float16 d, 64 bytes of points, 8 with a ninth bit of each, 32 of signs, 8 scales of 4 bits for 32 values each.
 * All values are odd, from -15 to 15, so with a shift they fit 4 bits: 2 d (q - 8) + d.
 */
export function packIq3S(bytes: Uint8Array, count: number, { weight, scales, shifts }: PackedRows): void {
  const half = halfValues()
  const grid = once('IQ3_S', 4, SIZES_IQ3_S)
  for (let block = 0, from = 0; block < count; block++, from += 110) {
    const d = halfAt(bytes, half, from)
    for (let sub = 0; sub < 8; sub++) {
      const scale = (bytes[from + 106 + (sub >> 1)]! >> (4 * (sub & 1))) & 15
      const single = d * (1 + 2 * scale)
      scales[block * 8 + sub] = 2 * single
      shifts![block * 8 + sub] = single
    }
    for (let i = 0; i < 256; i += 2) {
      weight[(block * 256 + i) >> 1] =
        oddValue(grid, bytes, from, i) | (oddValue(grid, bytes, from, i + 1) << 4)
    }
  }
}

/** Value i of a block of IQ3_S as (value - 1) / 2 + 8. */
function oddValue(grid: Int8Array, bytes: Uint8Array, from: number, i: number): number {
  const l = i >> 2
  const ninth = (bytes[from + 66 + (l >> 3)]! >> (l & 7)) & 1
  const size = grid[(bytes[from + 2 + l]! | (ninth << 8)) * 4 + (i & 3)]!
  const negative = (bytes[from + 74 + (i >> 3)]! >> (i & 7)) & 1
  return ((negative ? -size : size) - 1) / 2 + 8
}

/**
 * IQ1_S: float16 d, 32 bytes of points, then of every 32 values 2 bytes: 3 more bits of 4 points, a scale of 3 bits, and
 * whether an eighth is added to each value (-1, 0 or 1) or taken off. In eighths all of them are integers.
 */
export function packIq1S(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  const grid = once('IQ1_S', 2, SIZES_IQ1)
  for (let block = 0, from = 0; block < count; block++, from += 50) {
    const d = halfAt(bytes, half, from)
    for (let sub = 0; sub < 8; sub++) {
      const word = bytes[from + 34 + 2 * sub]! | (bytes[from + 35 + 2 * sub]! << 8)
      scales[block * 8 + sub] = (d * (2 * ((word >> 12) & 7) + 1)) / 8
      for (let l = 0; l < 4; l++) {
        const point = bytes[from + 2 + sub * 4 + l]! | (((word >> (3 * l)) & 7) << 8)
        writeEighths(grid, point, word & 0x8000 ? -1 : 1, weight, block * 256 + sub * 32 + l * 8)
      }
    }
  }
}

/**
 * IQ1_M: 32 bytes of points, 16 with 3 more bits of each and the sign of its eighth, 8 bytes of scales of 3 bits for 16
 * values each, whose upper bits in fours are the float16 d.
 */
export function packIq1M(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  const grid = once('IQ1_S', 2, SIZES_IQ1)
  for (let block = 0, from = 0; block < count; block++, from += 56) {
    const words = [0, 2, 4, 6].map(at => bytes[from + 48 + at]! | (bytes[from + 49 + at]! << 8))
    const d = half[words.reduce((bits, word, i) => bits | ((word >> 12) << (4 * i)), 0)]!
    for (let i = 0; i < 16; i++) {
      scales[block * 16 + i] = (d * (2 * ((words[i >> 2]! >> (3 * (i & 3))) & 7) + 1)) / 8
    }
    for (let l = 0; l < 32; l++) {
      const high = bytes[from + 32 + (l >> 1)]! >> (4 * (l & 1))
      const point = bytes[from + l]! | ((high & 7) << 8)
      writeEighths(grid, point, high & 8 ? -1 : 1, weight, block * 256 + l * 8)
    }
  }
}

function writeEighths(grid: Int8Array, point: number, delta: 1 | -1, weight: Uint8Array, to: number): void {
  for (let i = 0; i < 8; i++) weight[to + i] = 128 + 8 * grid[point * 8 + i]! + delta
}

/** 16 scales of 4 bits, two a byte: d (0.5 + scale) / 4. */
function fourBitScales(bytes: Uint8Array, from: number, d: number, scales: Float32Array, to: number): void {
  for (let i = 0; i < 16; i++) {
    const scale = (bytes[from + (i >> 1)]! >> (4 * (i & 1))) & 15
    scales[to + i] = d * (0.5 + scale) * 0.25
  }
}

function wordAt(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24)) >>> 0
}
