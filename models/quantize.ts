import type { Quantization } from './manifest.ts'

/** Rows of a projection in blocks; see TensorEntry for the layout. */
export interface PackedRows {
  /** (rows, blocks, blockSize * bits / 8) */
  weight: Uint8Array
  /** (rows, blocks) */
  scales: Float32Array
  /** (rows, blocks), of shifted blocks */
  shifts?: Float32Array
}

/** Memory for so many blocks. */
export function allocateBlocks(count: number, { bits, blockSize, shifted }: Quantization): PackedRows {
  return {
    weight: new Uint8Array((count * blockSize * bits) / 8),
    scales: new Float32Array(count),
    ...(shifted && { shifts: new Float32Array(count) })
  }
}

/**
 * The largest magnitude of a block is mapped to -8 - offset, one try an offset (as llama.cpp's make_qx_quants): a scale
 * slightly off the maximum costs that one weight a little and helps the others.
 */
const Q4_OFFSETS = [0, -1.6, -1.2, -0.8, -0.4, 0.4, 0.8]

/** A block without a weight above this is zero: what divides by less overflows. */
const NOTHING = 1e-30

/**
 * Rounds rows to blocks of 4 or 8 bits. Of each block the scale with the least squared error is taken: for given
 * integers q that is sum(x q) / sum(q q). A row's last block is padded with zeros.
 *
 * @param values (rows, columns), finite
 */
export function quantizeRows(
  values: Float32Array,
  columns: number,
  packing: Quantization,
  into = allocateBlocks((values.length / columns) * Math.ceil(columns / packing.blockSize), packing)
): PackedRows {
  const { bits, blockSize } = packing
  const { weight, scales } = into
  const rows = values.length / columns
  const blocks = Math.ceil(columns / blockSize)
  const block = new Float32Array(blockSize)
  const integers = new Int32Array(blockSize)
  for (let row = 0, at = 0; row < rows; row++) {
    for (let b = 0; b < blocks; b++, at++) {
      const start = row * columns + b * blockSize
      const end = Math.min(start + blockSize, (row + 1) * columns)
      block.fill(0, end - start)
      for (let i = start; i < end; i++) block[i - start] = values[i]!
      if (bits === 8) {
        scales[at] = roundTo8Bits(block, integers)
        for (let i = 0; i < blockSize; i++) weight[at * blockSize + i] = integers[i]! + 128
      } else {
        scales[at] = roundTo4Bits(block, integers)
        for (let i = 0; i < blockSize; i += 2) {
          weight[(at * blockSize + i) >> 1] = (integers[i]! + 8) | ((integers[i + 1]! + 8) << 4)
        }
      }
    }
  }
  return into
}

/** The floats that packed rows stand for. */
export function dequantizeRows(packed: PackedRows, columns: number, packing: Quantization): Float32Array {
  const { bits, blockSize } = packing
  const blocks = Math.ceil(columns / blockSize)
  const rows = packed.scales.length / blocks
  const values = new Float32Array(rows * columns)
  for (let row = 0, at = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++, at++) {
      const block = row * blocks + Math.floor(column / blockSize)
      const index = block * blockSize + (column % blockSize)
      const byte = packed.weight[bits === 8 ? index : index >> 1]!
      const q = bits === 8 ? byte - 128 : (index & 1 ? byte >> 4 : byte & 15) - 8
      values[at] = q * packed.scales[block]!
      if (packed.shifts !== undefined) values[at]! += packed.shifts[block]!
    }
  }
  return values
}

/** Fills `integers` with -127..127 and returns the scale. */
function roundTo8Bits(block: Float32Array, integers: Int32Array): number {
  let largest = 0
  for (let i = 0; i < block.length; i++) largest = Math.max(largest, Math.abs(block[i]!))
  if (largest < NOTHING) {
    integers.fill(0)
    return 0
  }
  const inverse = 127 / largest
  let xq = 0
  let qq = 0
  for (let i = 0; i < block.length; i++) {
    const x = block[i]!
    const q = ((x * inverse + 127.5) | 0) - 127
    integers[i] = q
    xq += x * q
    qq += q * q
  }
  return xq / qq
}

/** Fills `integers` with -8..7 and returns the scale. */
function roundTo4Bits(block: Float32Array, integers: Int32Array): number {
  let extreme = 0
  for (let i = 0; i < block.length; i++) {
    if (Math.abs(block[i]!) > Math.abs(extreme)) extreme = block[i]!
  }
  if (Math.abs(extreme) < NOTHING) {
    integers.fill(0)
    return 0
  }
  let best = 0
  let bestGain = -1
  let scale = 0
  for (const offset of Q4_OFFSETS) {
    const inverse = -(8 + offset) / extreme
    let xq = 0
    let qq = 0
    for (let i = 0; i < block.length; i++) {
      const x = block[i]!
      const q = nearest4(x * inverse)
      xq += x * q
      qq += q * q
    }
    // The squared error is sum(x x) - xq^2 / qq.
    const gain = (xq * xq) / qq
    if (gain > bestGain) {
      bestGain = gain
      best = inverse
      scale = xq / qq
    }
  }
  for (let i = 0; i < block.length; i++) integers[i] = nearest4(block[i]! * best)
  return scale
}

function nearest4(x: number): number {
  const q = ((x + 8.5) | 0) - 8
  return Math.min(q, 7)
}
