/**
 * GGUF blocks with a minimum each: d q + m or d q - m. The project's own blocks have none, so these are only read to be
 * rounded anew. Formulas: ggml-quants.c, dequantize_row_*.
 */

/** Q4_1: float16 d and m, 16 bytes of halves as in Q4_0; d q + m. */
export function dequantizeQ4_1(bytes: Uint8Array, half: Float32Array, count: number): Float32Array {
  const values = new Float32Array(count * 32)
  for (let block = 0, from = 0; block < count; block++, from += 20) {
    const d = halfAt(bytes, half, from)
    const m = halfAt(bytes, half, from + 2)
    for (let j = 0; j < 16; j++) {
      const byte = bytes[from + 4 + j]!
      values[block * 32 + j] = d * (byte & 15) + m
      values[block * 32 + 16 + j] = d * (byte >> 4) + m
    }
  }
  return values
}

/** Q5_1: float16 d and m, 4 bytes of fifth bits, 16 bytes of halves; d q + m. */
export function dequantizeQ5_1(bytes: Uint8Array, half: Float32Array, count: number): Float32Array {
  const values = new Float32Array(count * 32)
  for (let block = 0, from = 0; block < count; block++, from += 24) {
    const d = halfAt(bytes, half, from)
    const m = halfAt(bytes, half, from + 2)
    const fifth =
      bytes[from + 4]! | (bytes[from + 5]! << 8) | (bytes[from + 6]! << 16) | (bytes[from + 7]! << 24)
    for (let j = 0; j < 16; j++) {
      const byte = bytes[from + 8 + j]!
      values[block * 32 + j] = d * ((byte & 15) | (((fifth >>> j) & 1) << 4)) + m
      values[block * 32 + 16 + j] = d * ((byte >> 4) | (((fifth >>> (j + 16)) & 1) << 4)) + m
    }
  }
  return values
}

/** Q4_K: float16 d and dmin, 12 bytes of 6-bit scales and minima of 8 blocks of 32, 128 bytes of halves. */
export function dequantizeQ4K(bytes: Uint8Array, half: Float32Array, count: number): Float32Array {
  const values = new Float32Array(count * 256)
  for (let block = 0, from = 0; block < count; block++, from += 144) {
    for (let sub = 0; sub < 8; sub++) {
      const { d, m } = scaleAndMinimum(bytes, half, from, sub)
      const halves = from + 16 + (sub >> 1) * 32
      const shift = (sub & 1) * 4
      const to = block * 256 + sub * 32
      for (let l = 0; l < 32; l++) values[to + l] = d * ((bytes[halves + l]! >> shift) & 15) - m
    }
  }
  return values
}

/** Q5_K: as Q4_K, with 32 bytes of fifth bits (bit `sub` of byte l) before the halves. */
export function dequantizeQ5K(bytes: Uint8Array, half: Float32Array, count: number): Float32Array {
  const values = new Float32Array(count * 256)
  for (let block = 0, from = 0; block < count; block++, from += 176) {
    for (let sub = 0; sub < 8; sub++) {
      const { d, m } = scaleAndMinimum(bytes, half, from, sub)
      const halves = from + 48 + (sub >> 1) * 32
      const shift = (sub & 1) * 4
      const to = block * 256 + sub * 32
      for (let l = 0; l < 32; l++) {
        const q = ((bytes[halves + l]! >> shift) & 15) | (((bytes[from + 16 + l]! >> sub) & 1) << 4)
        values[to + l] = d * q - m
      }
    }
  }
  return values
}

/** ggml-quants.c, get_scale_min_k4. */
function scaleAndMinimum(
  bytes: Uint8Array,
  half: Float32Array,
  from: number,
  sub: number
): { d: number; m: number } {
  const at = (i: number) => bytes[from + 4 + i]!
  const scale = sub < 4 ? at(sub) & 63 : (at(sub + 4) & 15) | ((at(sub - 4) >> 6) << 4)
  const minimum = sub < 4 ? at(sub + 4) & 63 : (at(sub + 4) >> 4) | ((at(sub) >> 6) << 4)
  return { d: halfAt(bytes, half, from) * scale, m: halfAt(bytes, half, from + 2) * minimum }
}

function halfAt(bytes: Uint8Array, half: Float32Array, at: number): number {
  return half[bytes[at]! | (bytes[at + 1]! << 8)]!
}
