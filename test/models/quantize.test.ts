import { describe, expect, it } from 'vitest'
import { dequantizeRows, quantizeRows } from '../../models/quantize.ts'
import { prng } from '../fixtures/prng.ts'

const random = prng(7)
/** Roughly normal. */
const normal = () => Array.from({ length: 12 }, random).reduce((a, b) => a + b, -6)

function squaredError(
  values: Float32Array,
  columns: number,
  packing: { bits: 4 | 8; blockSize: number }
): number {
  const back = dequantizeRows(quantizeRows(values, columns, packing), columns, packing)
  return values.reduce((sum, x, i) => sum + (x - back[i]!) ** 2, 0)
}

/** The usual way: the scale that fits the largest weight. */
function absmaxError(values: Float32Array, blockSize: number, levels: number): number {
  let error = 0
  for (let start = 0; start < values.length; start += blockSize) {
    const block = values.subarray(start, start + blockSize)
    const scale = Math.max(...block.map(Math.abs)) / levels
    for (const x of block) error += (x - Math.round(x / scale) * scale) ** 2
  }
  return error
}

describe('quantizeRows', () => {
  it('keeps values that lie on a grid of the blocks exactly', () => {
    const grid8 = Float32Array.from({ length: 64 }, (_, i) => ((i * 37) % 255) - 127)
    const grid4 = Float32Array.from({ length: 64 }, (_, i) => (i % 16) - 8)
    grid8[0] = 127
    grid8[32] = -127
    expect([...dequantizeRows(quantizeRows(grid8, 32, Q8), 32, Q8)]).toEqual([...grid8])
    expect([...dequantizeRows(quantizeRows(grid4, 32, Q4), 32, Q4)]).toEqual([...grid4])
  })

  it.each([32, 64, 128])('has a smaller error than the scale of the maximum, blocks of %i', blockSize => {
    const values = Float32Array.from({ length: 4096 }, normal)
    const q4 = squaredError(values, 1024, { bits: 4, blockSize })
    expect(q4).toBeLessThan(absmaxError(values, blockSize, 7) * 0.85)
    const q8 = squaredError(values, 1024, { bits: 8, blockSize })
    expect(q8).toBeLessThanOrEqual(absmaxError(values, blockSize, 127) * 1.0001)
  })

  it('pads the last block of a row that its block size does not divide', () => {
    const values = Float32Array.from({ length: 3 * 43 }, normal)
    const packed = quantizeRows(values, 43, Q4)
    expect(packed.scales).toHaveLength(3 * 2)
    expect(packed.weight).toHaveLength(3 * 2 * 16)
    // 43 - 32 = 11 weights in the last block: what follows is the zero point in both halves of a byte.
    expect([...packed.weight.subarray(16 + 6, 32)]).toEqual(Array(10).fill(0x88))
    expect(squaredError(values, 43, Q8)).toBeLessThan(squaredError(values, 43, Q4))
  })

  it('gives blocks of zeros and of vanishing values the scale 0', () => {
    for (const packing of [Q4, Q8]) {
      const { scales, weight } = quantizeRows(new Float32Array(32).fill(1e-42), 32, packing)
      expect([...scales]).toEqual([0])
      expect(new Set(weight)).toEqual(new Set([packing.bits === 8 ? 128 : 0x88]))
    }
  })
})

const Q8 = { bits: 8, blockSize: 32 } as const
const Q4 = { bits: 4, blockSize: 32 } as const
