import type { Quantization } from '../../models/manifest.ts'

/**
 * How a processor's kernels treat the input of a product with weights in blocks (MatMulNBits at accuracy level 4).
 *
 * - `blocks`: rounded to the nearest of 255 steps of each block's largest value (x64 from AVX2 on; ARM at 8 bits).
 * - `rows`: rounded to one of 256 steps between a row's least and largest value, with scales of weights cut to
 *   bfloat16 (ARM at 4 bits in blocks of 32 and more: Arm's KleidiAI, which ONNX Runtime prefers).
 * - `none`: taken as it is, because there is no integer kernel (x64 before AVX2).
 */
export type InputRounding = 'blocks' | 'rows' | 'none'

/** What a reference can do to the letter; `rows` is held to a bound only. */
export type ExactRounding = Exclude<InputRounding, 'rows'>

/** Nearer to a tie than this, in steps of its block, float32 and float64 may round an input to different steps. */
export const TIE_MARGIN = 1e-4

/** The input that a product computes with, for rows of `columns` values. */
export function roundInput(x: Float64Array, blockSize: number, rounding: ExactRounding): Float64Array {
  if (rounding === 'none') return x
  const out = new Float64Array(x.length)
  for (let start = 0; start < x.length; start += blockSize) {
    const block = x.subarray(start, start + blockSize)
    const scale = largest(block) / 127
    if (scale > 0)
      out.set(
        block.map(value => Math.round(value / scale) * scale),
        start
      )
  }
  return out
}

/** How far the value nearest to a tie is from it, in steps of its block: (0, 0.5]; 0.5 where nothing is rounded. */
export function distanceFromTie(x: Float64Array, blockSize: number, rounding: ExactRounding): number {
  let nearest = 0.5
  if (rounding === 'none') return nearest
  for (let start = 0; start < x.length; start += blockSize) {
    const block = x.subarray(start, start + blockSize)
    const scale = largest(block) / 127
    // The largest value itself is 127 steps, whatever the last bit of it is.
    for (const value of scale > 0 ? block : []) {
      const steps = Math.abs(value / scale)
      nearest = Math.min(nearest, Math.abs(steps - Math.floor(steps) - 0.5))
    }
  }
  return nearest
}

/** The weights of packed rows in float64: scale * (q - 2^(bits - 1)), (rows, columns). */
export function unpackRows(
  weight: Uint8Array,
  scales: Float32Array,
  columns: number,
  { bits, blockSize }: Quantization
): Float64Array {
  const blocks = Math.ceil(columns / blockSize)
  const rows = scales.length / blocks
  const out = new Float64Array(rows * columns)
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const block = row * blocks + Math.floor(column / blockSize)
      const at = block * blockSize + (column % blockSize)
      const q = bits === 8 ? weight[at]! : (weight[at >> 1]! >> (4 * (at & 1))) & 15
      out[row * columns + column] = scales[block]! * (q - 2 ** (bits - 1))
    }
  }
  return out
}

function largest(values: Float64Array): number {
  return values.reduce((max, value) => Math.max(max, Math.abs(value)), 0)
}
