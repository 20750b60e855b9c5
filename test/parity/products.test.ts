import { describe, expect, it } from 'vitest'
import type { Quantization } from '../../models/manifest.ts'
import { errorShare, inputRounding, inputsOffTies, type Product, runProduct } from '../fixtures/product.ts'
import { gaussian } from '../fixtures/random-model.ts'
import { processorKind } from '../processors/kind.ts'
import type { InputRounding } from '../reference/products.ts'

const PACKINGS: Quantization[] = ([4, 8] as const).flatMap(bits =>
  [16, 32, 64, 128].map(blockSize => ({ bits, blockSize }))
)
const ROWS = 40
const INPUT_ROWS = [1, 2, 3, 8]

const blocksOf = (columns: number, { blockSize }: Quantization) => Math.ceil(columns / blockSize)

function randomProduct(packing: Quantization, columns: number, inputRows: number): Product {
  const random = gaussian(columns + inputRows)
  const blocks = ROWS * blocksOf(columns, packing)
  const bytes = (blocks * packing.blockSize * packing.bits) / 8
  return {
    packing,
    columns,
    weight: Uint8Array.from({ length: bytes }, () => Math.abs(random() * 1e6) & 255),
    scales: Float32Array.from({ length: blocks }, () => 0.01 + 0.01 * Math.abs(random())),
    x: inputsOffTies(random, inputRows, columns, packing.blockSize)
  }
}

/** Inputs and weights as large as they get: sums of two products of 8 bits leave 16 bits, where kernels may saturate. */
function largestProduct(
  packing: Quantization,
  columns: number,
  byte: number,
  sign: (i: number) => number
): Product {
  const blocks = ROWS * blocksOf(columns, packing)
  return {
    packing,
    columns,
    weight: new Uint8Array((blocks * packing.blockSize * packing.bits) / 8).fill(byte),
    scales: new Float32Array(blocks).fill(0.01),
    x: Float32Array.from({ length: 2 * columns }, (_, i) => sign(i))
  }
}

describe.each(PACKINGS)(`products of $bits bits in blocks of $blockSize on ${processorKind()}`, packing => {
  const { blockSize } = packing
  // Whole blocks and, as rows of models have them too, a last one that is not full.
  const widths = [blockSize, 4 * blockSize, 3 * blockSize + 16]

  it('are what float64 gives within what float32 may lose, for any number of rows', async () => {
    const rounding: InputRounding = await inputRounding(packing)
    for (const columns of widths) {
      for (const inputRows of INPUT_ROWS) {
        const product = randomProduct(packing, columns, inputRows)
        const share = errorShare(product, await runProduct(product), rounding)
        expect(share, `${columns} columns, ${inputRows} rows`).toBeLessThan(1)
      }
    }
  })

  it('do not saturate where weights and inputs are largest', async () => {
    const rounding: InputRounding = await inputRounding(packing)
    for (const byte of [0x00, 0xff, 0xf0]) {
      for (const sign of [() => 1, () => -1, (i: number) => (i % 2 ? 1 : -1)]) {
        const product = largestProduct(packing, 4 * blockSize, byte, sign)
        expect(errorShare(product, await runProduct(product), rounding), `bytes ${byte}`).toBeLessThan(1)
      }
    }
  })
})
