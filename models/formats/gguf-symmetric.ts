import type { Quantization } from '../manifest.ts'
import { dequantizeRows, type PackedRows } from '../quantize.ts'
import { halfValues } from './floats.ts'

/**
 * GGUF blocks without a minimum, turned into the project's own: the same integers in another order, the same scales
 * as float32. Formulas: ggml-quants.c, dequantize_row_*.
 */

/** The low halves of each pair of bytes in one byte, their high halves in the other; made once. */
let halvesTable: Uint16Array | undefined

function halvesOfPairs(): Uint16Array {
  halvesTable ??= Uint16Array.from(
    { length: 65_536 },
    (_, pair) => (pair & 0x0f) | ((pair >> 4) & 0xf0) | ((((pair >> 4) & 0x0f) | ((pair >> 8) & 0xf0)) << 8)
  )
  return halvesTable
}

/** Q4_0: float16 d, then 16 bytes: value j in the low half of byte j, value j + 16 in its high half; d (q - 8). */
export function packQ4_0(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  const halves = halvesOfPairs()
  const input = words(bytes)
  const output = new Uint32Array(weight.buffer, weight.byteOffset, count * 4)
  // Unrolled, with whole words: this is what an import of a large file spends its time on.
  for (let block = 0, from = 0, to = 0; block < count; block++, from += 9, to += 4) {
    scales[block] = half[input[from]!]!
    const a = halves[input[from + 1]!]!
    const b = halves[input[from + 2]!]!
    const c = halves[input[from + 3]!]!
    const d = halves[input[from + 4]!]!
    const e = halves[input[from + 5]!]!
    const f = halves[input[from + 6]!]!
    const g = halves[input[from + 7]!]!
    const h = halves[input[from + 8]!]!
    output[to] = (a & 255) | ((b & 255) << 8) | ((c & 255) << 16) | (d << 24)
    output[to + 1] = (e & 255) | ((f & 255) << 8) | ((g & 255) << 16) | (h << 24)
    output[to + 2] = (a >>> 8) | (b & 0xff00) | ((c >>> 8) << 16) | ((d & 0xff00) << 16)
    output[to + 3] = (e >>> 8) | (f & 0xff00) | ((g >>> 8) << 16) | ((h & 0xff00) << 16)
  }
}

/** Q8_0: float16 d, then 32 signed bytes; d q. */
export function packQ8_0(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  const input = words(bytes)
  const output = new Uint16Array(weight.buffer, weight.byteOffset, count * 16)
  for (let block = 0, from = 0, to = 0; block < count; block++) {
    scales[block] = half[input[from++]!]!
    // Adding 128 to a signed byte flips its highest bit.
    for (let i = 0; i < 16; i++) output[to++] = input[from++]! ^ 0x8080
  }
}

/** Q5_0: float16 d, 4 bytes of fifth bits, 16 bytes of low halves as in Q4_0; d (q - 16). */
export function packQ5_0(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  for (let block = 0, from = 0; block < count; block++, from += 22) {
    scales[block] = half[bytes[from]! | (bytes[from + 1]! << 8)]!
    const fifth =
      bytes[from + 2]! | (bytes[from + 3]! << 8) | (bytes[from + 4]! << 16) | (bytes[from + 5]! << 24)
    for (let j = 0; j < 16; j++) {
      const byte = bytes[from + 6 + j]!
      weight[block * 32 + j] = ((byte & 15) | (((fifth >>> j) & 1) << 4)) - 16 + 128
      weight[block * 32 + 16 + j] = ((byte >> 4) | (((fifth >>> (j + 16)) & 1) << 4)) - 16 + 128
    }
  }
}

/**
 * Q6_K: of 256 values 128 bytes of low halves, 64 bytes of upper bit pairs, 16 signed scales, float16 d;
 * d scale (q - 32). d scale has at most 18 significant bits, so float32 holds it.
 */
export function packQ6K(bytes: Uint8Array, count: number, { weight, scales }: PackedRows): void {
  const half = halfValues()
  for (let block = 0, from = 0; block < count; block++, from += 210) {
    const d = half[bytes[from + 208]! | (bytes[from + 209]! << 8)]!
    for (let i = 0; i < 16; i++) scales[block * 16 + i] = d * ((bytes[from + 192 + i]! << 24) >> 24)
    for (let part = 0; part < 2; part++) {
      const low = from + part * 64
      const high = from + 128 + part * 32
      const to = block * 256 + part * 128
      for (let l = 0; l < 32; l++) {
        const pairs = bytes[high + l]!
        const a = bytes[low + l]!
        const b = bytes[low + 32 + l]!
        weight[to + l] = ((a & 15) | ((pairs & 3) << 4)) + 96
        weight[to + 32 + l] = ((b & 15) | (((pairs >> 2) & 3) << 4)) + 96
        weight[to + 64 + l] = ((a >> 4) | (((pairs >> 4) & 3) << 4)) + 96
        weight[to + 96 + l] = ((b >> 4) | ((pairs >> 6) << 4)) + 96
      }
    }
  }
}

/** The floats of whole blocks. */
export function unpack(packed: PackedRows, packing: Quantization): Float32Array {
  return dequantizeRows(packed, packed.scales.length * packing.blockSize, packing)
}

/** The same values in blocks that are smaller, wider (8 bits for 4), shifted or all of that. */
export function widen(packed: PackedRows, from: Quantization, to: Quantization, into: PackedRows): void {
  const { weight, scales, shifts } = into
  const times = from.blockSize / to.blockSize
  for (let i = 0; i < scales.length; i++) scales[i] = packed.scales[Math.floor(i / times)]!
  if (shifts !== undefined) {
    for (let i = 0; i < shifts.length; i++) shifts[i] = packed.shifts?.[Math.floor(i / times)] ?? 0
  }
  if (from.bits === to.bits) {
    weight.set(packed.weight)
    return
  }
  for (let i = 0; i < packed.weight.length; i++) {
    weight[2 * i] = (packed.weight[i]! & 15) - 8 + 128
    weight[2 * i + 1] = (packed.weight[i]! >> 4) - 8 + 128
  }
}

function words(bytes: Uint8Array): Uint16Array {
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : bytes.slice()
  return new Uint16Array(aligned.buffer, aligned.byteOffset, aligned.byteLength >> 1)
}
