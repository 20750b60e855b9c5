import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { mxfp4Tensor } from '../../models/import/quantization/mxfp4.ts'
import type { LayerFile } from '../../models/manifest.ts'
import { dequantizeRows } from '../../models/quantize.ts'
import { ModelStore } from '../../models/store/store.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { prng } from '../fixtures/prng.ts'
import {
  AWQ,
  awq,
  compressed,
  compressedConfig,
  FP8,
  fp8,
  GPTQ,
  GROUP,
  gptq,
  mlx,
  signedBytes,
  table,
  type Written,
  weights,
  writeQuantized
} from '../fixtures/quantized-folder.ts'

const shifted = true
const q4 = { bits: 4, blockSize: 32 }
const q8 = { bits: 8, blockSize: 32 }

let folder: Awaited<ReturnType<typeof temporaryFolder>>
let dir: string
let store: ModelStore
beforeEach(async () => {
  folder = await temporaryFolder()
  dir = join(folder.path, 'hf')
  store = await ModelStore.open(join(folder.path, 'store'))
})
afterEach(() => folder[Symbol.asyncDispose]())

async function readTensor(layer: LayerFile, name: string) {
  const file = await readFile(store.blobPath(layer.sha256))
  const slice = (part: string) => {
    const entry = layer.tensors.find(tensor => tensor.name === `${name}.${part}`)
    return entry && Uint8Array.from(file.subarray(entry.offset, entry.offset + entry.bytes))
  }
  const entry = layer.tensors.find(tensor => tensor.name === `${name}.weight`)!
  const packing = entry.quantization!
  const shifts = slice('shifts')
  const packed = {
    weight: slice('weight')!,
    scales: new Float32Array(slice('scales')!.buffer),
    ...(shifts && { shifts: new Float32Array(shifts.buffer) })
  }
  const columns = entry.shape[1]! * packing.blockSize
  return { packing, floats: dequantizeRows(packed, columns, packing), columns }
}

/** The parts of a projection of the second layer, as the file means them. */
function expected(
  written: Map<string, Written>,
  names: [name: string, rows: number][],
  columns: number
): number[] {
  return names.flatMap(([name, rows]) => table(rows, columns, written.get(`model.layers.1.${name}`)!.value))
}

const PROJECTIONS: [tensor: string, parts: [string, number][]][] = [
  [
    'qkv',
    [
      ['self_attn.q_proj', 32],
      ['self_attn.k_proj', 16],
      ['self_attn.v_proj', 16]
    ]
  ],
  [
    'gate_up',
    [
      ['mlp.gate_proj', 64],
      ['mlp.up_proj', 64]
    ]
  ],
  ['ffn_down', [['mlp.down_proj', 32]]]
]

describe('folders that are quantised', () => {
  it.each([
    ['GPTQ', { quantization_config: GPTQ }, gptq(4, false), { ...q4, shifted }],
    ['symmetric GPTQ', { quantization_config: { ...GPTQ, sym: true } }, gptq(4, true), q4],
    ['GPTQ of 8 bits', { quantization_config: { ...GPTQ, bits: 8 } }, gptq(8, false), { ...q8, shifted }],
    ['AWQ', { quantization_config: AWQ }, awq, { ...q4, shifted }],
    ['MLX', { quantization: { bits: 4, group_size: GROUP } }, mlx(4), { ...q4, shifted }],
    [
      'MLX of 8 bits, said twice',
      {
        quantization: { bits: 8, group_size: GROUP, mode: 'affine' },
        quantization_config: { bits: 8, group_size: GROUP, mode: 'affine' }
      },
      mlx(8),
      { ...q8, shifted }
    ],
    [
      'compressed-tensors',
      { quantization_config: compressedConfig('pack-quantized', weights(4, true)) },
      compressed(4, true),
      q4
    ],
    [
      'compressed-tensors with zeros',
      { quantization_config: compressedConfig('pack-quantized', weights(4, false)) },
      compressed(4, false),
      { ...q4, shifted }
    ],
    [
      'compressed-tensors of 8 bits',
      { quantization_config: compressedConfig('pack-quantized', weights(8, true)) },
      compressed(8, true),
      q8
    ],
    [
      'compressed-tensors of signed bytes',
      { quantization_config: compressedConfig('int-quantized', weights(8, true, 'channel')) },
      signedBytes,
      undefined
    ]
  ] as const)('keep the values of %s', async (_, config, write, packing) => {
    const written = await writeQuantized(dir, config, write)
    const { id, manifest } = await importModel(dir, store, {
      name: 'x',
      quantize: 'none',
      checkTokenizer: false
    })
    for (const [tensor, parts] of PROJECTIONS) {
      const found = await readTensor(manifest.layers[2]!, tensor)
      if (packing !== undefined) expect(found.packing).toEqual(packing)
      const values = expected(written, parts, found.columns)
      expect(found.floats).toHaveLength(values.length)
      const largest = Math.max(...values.map(Math.abs))
      const wrong = values.findIndex((value, i) => Math.abs(value - found.floats[i]!) > largest * 2 ** -20)
      expect(wrong).toBe(-1)
    }
    // As threads read them.
    const threads = await importModel(dir, store, {
      name: 'y',
      quantize: 'none',
      threads: 2,
      checkTokenizer: false
    })
    expect(threads.id).toBe(id)
  })

  it.each([
    ['FP8 of tiles', { quantization_config: FP8 }, fp8('tiles'), 8],
    [
      'FP8 of rows',
      { quantization_config: compressedConfig('float-quantized', weights(8, true, 'channel', 'float')) },
      fp8('rows'),
      8
    ],
    [
      'FP8 of tensors',
      { quantization_config: { quant_method: 'fp8', activation_scheme: 'static' } },
      fp8('tensor'),
      8
    ],
    [
      'GPTQ in the order of activations',
      { quantization_config: { ...GPTQ, desc_act: true } },
      gptq(4, false, column => column % 2),
      4
    ]
  ] as const)(
    'round %s, say so, and keep its values where they are asked to',
    async (_, config, write, bits) => {
      const groups = config.quantization_config === FP8 ? {} : { hidden_size: 64 }
      const written = await writeQuantized(dir, { ...config, ...groups }, write)
      const notices: string[] = []
      const options = { name: 'x', checkTokenizer: false, onNotice: (notice: string) => notices.push(notice) }
      const { manifest } = await importModel(dir, store, options)
      expect(notices[0]).toMatch(new RegExp(`rounded to ${bits} bits in blocks of .* relative error of \\d`))
      const rounded = await readTensor(manifest.layers[2]!, 'ffn_down')
      expect(rounded.packing.bits).toBe(bits)
      const exact = await importModel(dir, store, { name: 'y', quantize: 'none', checkTokenizer: false })
      const layer = exact.manifest.layers[2]!
      const entry = layer.tensors.find(tensor => tensor.name === 'ffn_down')!
      const file = await readFile(store.blobPath(layer.sha256))
      const floats = new Float32Array(
        Uint8Array.from(file.subarray(entry.offset, entry.offset + entry.bytes)).buffer
      )
      const [out, columns] = entry.shape as [number, number]
      const values = expected(written, [['mlp.down_proj', out]], columns)
      for (const [i, value] of values.entries()) expect(floats[i]).toBe(Math.fround(value))
    }
  )

  it.each([
    [
      'an unknown method',
      { quant_method: 'bitsandbytes', load_in_4bit: true },
      /the method "bitsandbytes" \(known are fp8, awq/
    ],
    [
      'an unknown key',
      { ...GPTQ, rotation: 'hadamard' },
      /quantization_config: the key "rotation" is not supported/
    ],
    ['3 bits', { ...GPTQ, bits: 3 }, /bits: /],
    ['another order of AWQ', { ...AWQ, version: 'gemv' }, /version: /],
    ['e5m2', { ...FP8, fmt: 'e5m2' }, /fmt: /],
    [
      'sparse weights',
      {
        ...compressedConfig('pack-quantized', weights(4, true)),
        sparsity_config: { format: 'sparse-24-bitmask' }
      },
      /sparsity_config/
    ],
    [
      'rotated weights',
      { ...compressedConfig('pack-quantized', weights(4, true)), transform_config: { u: 1 } },
      /transform_config/
    ],
    ['NVFP4', compressedConfig('nvfp4-pack-quantized', weights(4, true, 'group', 'float')), /format: /]
  ])('refuse %s by name', async (_, quantization_config, message) => {
    await writeQuantized(dir, { quantization_config }, gptq(4, false))
    await expect(importModel(dir, store, { name: 'x', checkTokenizer: false })).rejects.toThrow(message)
  })

  it('refuse zeros where the file is said to be symmetric, and shapes that do not fit', async () => {
    await writeQuantized(dir, { quantization_config: { ...GPTQ, sym: true } }, gptq(4, false))
    await expect(importModel(dir, store, { name: 'x', checkTokenizer: false })).rejects.toThrow(
      /is said to be symmetric, but has the zero/
    )
    await writeQuantized(dir, { quantization_config: { ...GPTQ, group_size: 16 } }, gptq(4, false))
    await expect(importModel(dir, store, { name: 'x', checkTokenizer: false })).rejects.toThrow(
      /groups for 32 inputs, config.json says/
    )
  })
})

it('experts of MXFP4 are read with two values a byte, the lower half first', async () => {
  const random = prng(4)
  const blocks = Uint8Array.from({ length: 2 * 3 * 2 * 16 }, () => Math.floor(random() * 256))
  const scales = Uint8Array.from({ length: 2 * 3 * 2 }, () => 120 + Math.floor(random() * 10))
  const stored: Record<string, { shape: number[]; data: Uint8Array }> = {
    down_proj_blocks: { shape: [2, 3, 2, 16], data: blocks },
    down_proj_scales: { shape: [2, 3, 2], data: scales }
  }
  const tensor = mxfp4Tensor(
    {
      dir: 'here',
      entry: name => ({
        dtype: 'U8',
        shape: stored[name]!.shape,
        offset: 0,
        bytes: stored[name]!.data.length
      }),
      readBytes: async (name, start, end) => stored[name]!.data.slice(start, end)
    },
    'down_proj'
  )
  expect(tensor.dims).toEqual([2, 3, 64])
  const floats = (await (await tensor.open())(3, 6)).floats()
  const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
  const values = Array.from({ length: 3 * 64 }, (_, i) => {
    const nibble = (blocks[96 + (i >> 1)]! >> (4 * (i & 1))) & 15
    return (nibble & 8 ? -1 : 1) * E2M1[nibble & 7]! * 2 ** (scales[6 + (i >> 5)]! - 127)
  })
  expect([...floats].map(value => value + 0)).toEqual(values.map(value => value + 0))
})
