import { readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { importModel } from '../../models/import/import-model.ts'
import { mxfp4Tensor } from '../../models/import/quantization/mxfp4.ts'
import type { LayerFile } from '../../models/manifest.ts'
import { dequantizeRows } from '../../models/quantize.ts'
import { ModelStore } from '../../models/store/store.ts'
import { encodeSafetensors, type TestTensor, writeCheckpoint } from '../fixtures/checkpoint.ts'
import { temporaryFolder } from '../fixtures/folder.ts'
import { prng } from '../fixtures/prng.ts'

/** A projection as numbers, and how a format writes it; `value` is the format's own formula. */
interface Written {
  tensors: Record<string, TestTensor>
  value: (row: number, column: number) => number
}

type Writer = (name: string, rows: number, columns: number, random: () => number) => Written

const GROUP = 32

const f32 = (shape: number[], values: number[]): TestTensor => ({
  dtype: 'F32',
  shape,
  bytes: new Uint8Array(Float32Array.from(values).buffer)
})
const f16 = (shape: number[], values: number[]): TestTensor => ({
  dtype: 'F16',
  shape,
  bytes: new Uint8Array(new Float16Array(values).buffer)
})
const words = (dtype: string, shape: number[], values: number[]): TestTensor => ({
  dtype,
  shape,
  bytes: new Uint8Array(Uint32Array.from(values).buffer)
})
const bytes = (dtype: string, shape: number[], values: number[]): TestTensor => ({
  dtype,
  shape,
  bytes: Uint8Array.from(values)
})

/** A table of random numbers by two indexes. */
function grid(rows: number, columns: number, draw: () => number): (row: number, column: number) => number {
  const values = Array.from({ length: rows * columns }, draw)
  return (row, column) => values[row * columns + column]!
}

const integers = (random: () => number, below: number) => () => Math.floor(random() * below)
const halves = (random: () => number) => () => Math.fround(Math.round(1 + random() * 500) / 4096)

/** (rows, columns) of what `at` gives. */
const table = (rows: number, columns: number, at: (row: number, column: number) => number) =>
  Array.from({ length: rows * columns }, (_, i) => at(Math.floor(i / columns), i % columns))

/** `count` integers of `bits` as one word, the first lowest. */
function word(bits: number, count: number, at: (i: number) => number): number {
  let sum = 0
  for (let i = 0; i < count; i++) sum += at(i) * 2 ** (bits * i)
  return sum
}

const gptq =
  (bits: 4 | 8, symmetric: boolean, order?: (column: number) => number): Writer =>
  (name, rows, columns, random) => {
    const inWord = 32 / bits
    const groups = columns / GROUP
    const q = grid(rows, columns, integers(random, 2 ** bits))
    const scale = grid(groups, rows, halves(random))
    const zero = symmetric
      ? () => 2 ** (bits - 1)
      : grid(groups, rows, () => 1 + Math.floor(random() * (2 ** bits - 1)))
    const groupOf = order ?? (column => Math.floor(column / GROUP))
    const tensors = {
      [`${name}.qweight`]: words(
        'I32',
        [columns / inWord, rows],
        table(columns / inWord, rows, (line, row) => word(bits, inWord, i => q(row, line * inWord + i)))
      ),
      [`${name}.qzeros`]: words(
        'I32',
        [groups, rows / inWord],
        table(groups, rows / inWord, (group, at) => word(bits, inWord, i => zero(group, at * inWord + i) - 1))
      ),
      [`${name}.scales`]: f16([groups, rows], table(groups, rows, scale)),
      [`${name}.g_idx`]: words(
        'I32',
        [columns],
        Array.from({ length: columns }, (_, i) => groupOf(i))
      )
    }
    const value = (row: number, column: number) => {
      const group = groupOf(column)
      return scale(group, row) * (q(row, column) - zero(group, row))
    }
    return { tensors, value }
  }

/** Where AutoAWQ's gemm form has the outputs of a word. */
const AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]

const awq: Writer = (name, rows, columns, random) => {
  const groups = columns / GROUP
  const q = grid(rows, columns, integers(random, 16))
  const zero = grid(groups, rows, integers(random, 16))
  const scale = grid(groups, rows, halves(random))
  const packed = (lines: number, at: (line: number, row: number) => number) =>
    words(
      'I32',
      [lines, rows / 8],
      table(lines, rows / 8, (line, w) => word(4, 8, i => at(line, w * 8 + AWQ_ORDER[i]!)))
    )
  const tensors = {
    [`${name}.qweight`]: packed(columns, (column, row) => q(row, column)),
    [`${name}.qzeros`]: packed(groups, zero),
    [`${name}.scales`]: f16([groups, rows], table(groups, rows, scale))
  }
  return {
    tensors,
    value: (row, column) => {
      const group = Math.floor(column / GROUP)
      return scale(group, row) * (q(row, column) - zero(group, row))
    }
  }
}

const mlx =
  (bits: 4 | 8): Writer =>
  (name, rows, columns, random) => {
    const inWord = 32 / bits
    const groups = columns / GROUP
    const q = grid(rows, columns, integers(random, 2 ** bits))
    const scale = grid(rows, groups, halves(random))
    const bias = grid(rows, groups, () => -halves(random)())
    const tensors = {
      [`${name}.weight`]: words(
        'U32',
        [rows, columns / inWord],
        table(rows, columns / inWord, (row, at) => word(bits, inWord, i => q(row, at * inWord + i)))
      ),
      [`${name}.scales`]: f16([rows, groups], table(rows, groups, scale)),
      [`${name}.biases`]: f16([rows, groups], table(rows, groups, bias))
    }
    return {
      tensors,
      value: (row, column) => {
        const group = Math.floor(column / GROUP)
        return scale(row, group) * q(row, column) + bias(row, group)
      }
    }
  }

const compressed =
  (bits: 4 | 8, symmetric: boolean): Writer =>
  (name, rows, columns, random) => {
    const inWord = 32 / bits
    const groups = columns / GROUP
    const half = 2 ** (bits - 1)
    const q = grid(rows, columns, () => Math.floor(random() * 2 ** bits) - half)
    const scale = grid(rows, groups, halves(random))
    const zero = symmetric ? () => 0 : grid(rows, groups, () => Math.floor(random() * 2 ** bits) - half)
    const tensors: Record<string, TestTensor> = {
      [`${name}.weight_packed`]: words(
        'I32',
        [rows, columns / inWord],
        table(rows, columns / inWord, (row, at) => word(bits, inWord, i => q(row, at * inWord + i) + half))
      ),
      [`${name}.weight_scale`]: f16([rows, groups], table(rows, groups, scale)),
      [`${name}.weight_shape`]: {
        dtype: 'I64',
        shape: [2],
        bytes: new Uint8Array(BigInt64Array.of(BigInt(rows), BigInt(columns)).buffer)
      }
    }
    if (!symmetric) {
      tensors[`${name}.weight_zero_point`] = words(
        'I32',
        [rows / inWord, groups],
        table(rows / inWord, groups, (at, group) =>
          word(bits, inWord, i => zero(at * inWord + i, group) + half)
        )
      )
    }
    return {
      tensors,
      value: (row, column) => {
        const group = Math.floor(column / GROUP)
        return scale(row, group) * (q(row, column) - zero(row, group))
      }
    }
  }

const signedBytes: Writer = (name, rows, columns, random) => {
  const q = grid(rows, columns, () => Math.floor(random() * 255) - 127)
  const scale = grid(rows, 1, halves(random))
  return {
    tensors: {
      [`${name}.weight`]: bytes('I8', [rows, columns], table(rows, columns, q)),
      [`${name}.weight_scale`]: f32([rows, 1], table(rows, 1, scale))
    },
    value: (row, column) => scale(row, 0) * q(row, column)
  }
}

/** A bit pattern of float8 as its definition says it. */
function e4m3(byte: number): number {
  const exponent = (byte & 0x7f) >> 3
  const size = exponent === 0 ? (byte & 7) / 512 : (8 + (byte & 7)) * 2 ** (exponent - 10)
  return byte >= 128 ? -size : size
}

const TILE = 16

const fp8 =
  (scaling: 'tiles' | 'rows' | 'tensor'): Writer =>
  (name, rows, columns, random) => {
    const q = grid(rows, columns, () => {
      const byte = Math.floor(random() * 256)
      return (byte & 127) === 127 ? 0 : byte
    })
    const [tall, wide] = { tiles: [TILE, TILE], rows: [1, columns], tensor: [rows, columns] }[scaling] as [
      number,
      number
    ]
    const [down, across] = [Math.ceil(rows / tall), Math.ceil(columns / wide)]
    const scale = grid(down, across, halves(random))
    const shape = scaling === 'tensor' ? [] : [down, across]
    const scales = f32(shape, table(down, across, scale))
    return {
      tensors: {
        [`${name}.weight`]: bytes('F8_E4M3', [rows, columns], table(rows, columns, q)),
        [`${name}.${scaling === 'tiles' ? 'weight_scale_inv' : 'weight_scale'}`]: scales,
        [`${name}.input_scale`]: f32([1], [0.5])
      },
      value: (row, column) =>
        Math.fround(
          e4m3(q(row, column)) * Math.fround(scale(Math.floor(row / tall), Math.floor(column / wide)))
        )
    }
  }

const GPTQ = {
  quant_method: 'gptq',
  bits: 4,
  group_size: GROUP,
  sym: false,
  desc_act: false,
  damp_percent: 0.01
}
const AWQ = { quant_method: 'awq', bits: 4, group_size: GROUP, zero_point: true, version: 'gemm' }
const FP8 = {
  quant_method: 'fp8',
  fmt: 'e4m3',
  activation_scheme: 'dynamic',
  weight_block_size: [TILE, TILE]
}
const compressedConfig = (format: string, weights: object) => ({
  quant_method: 'compressed-tensors',
  format,
  config_groups: {
    group_0: { targets: ['Linear'], weights, input_activations: null, output_activations: null }
  },
  ignore: ['lm_head'],
  kv_cache_scheme: null,
  quantization_status: 'compressed',
  global_compression_ratio: 1.5
})
const weights = (bits: number, symmetric: boolean, strategy = 'group', type = 'int') => ({
  num_bits: bits,
  type,
  symmetric,
  strategy,
  group_size: strategy === 'group' ? GROUP : null,
  dynamic: false,
  actorder: null,
  observer: 'minmax',
  observer_kwargs: {}
})
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

/** Writes a checkpoint whose layers' projections are quantised; returns their values. */
async function writeQuantized(config: Record<string, unknown>, write: Writer): Promise<Map<string, Written>> {
  const tensors = await writeCheckpoint(dir, { config })
  const written = new Map<string, Written>()
  const random = prng(15)
  for (const [name, { shape }] of [...tensors]) {
    if (!/_proj\.weight$/.test(name)) continue
    const module = name.slice(0, -'.weight'.length)
    const projection = write(module, shape[0]!, shape[1]!, random)
    written.set(module, projection)
    tensors.delete(name)
    for (const [part, tensor] of Object.entries(projection.tensors)) tensors.set(part, tensor)
  }
  await writeFile(join(dir, 'model.safetensors'), encodeSafetensors(tensors))
  return written
}

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
    const written = await writeQuantized(config, write)
    const { id, manifest } = await importModel(dir, store, { name: 'x', quantize: 'none' })
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
    const threads = await importModel(dir, store, { name: 'y', quantize: 'none', threads: 2 })
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
      const written = await writeQuantized({ ...config, ...groups }, write)
      const notices: string[] = []
      const options = { name: 'x', onNotice: (notice: string) => notices.push(notice) }
      const { manifest } = await importModel(dir, store, options)
      expect(notices[0]).toMatch(new RegExp(`rounded to ${bits} bits in blocks of .* relative error of \\d`))
      const rounded = await readTensor(manifest.layers[2]!, 'ffn_down')
      expect(rounded.packing.bits).toBe(bits)
      const exact = await importModel(dir, store, { name: 'y', quantize: 'none' })
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
    await writeQuantized({ quantization_config }, gptq(4, false))
    await expect(importModel(dir, store, { name: 'x' })).rejects.toThrow(message)
  })

  it('refuse zeros where the file is said to be symmetric, and shapes that do not fit', async () => {
    await writeQuantized({ quantization_config: { ...GPTQ, sym: true } }, gptq(4, false))
    await expect(importModel(dir, store, { name: 'x' })).rejects.toThrow(
      /is said to be symmetric, but has the zero/
    )
    await writeQuantized({ quantization_config: { ...GPTQ, group_size: 16 } }, gptq(4, false))
    await expect(importModel(dir, store, { name: 'x' })).rejects.toThrow(
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
  const floats = (await (await tensor.open())(1, 2)).floats()
  const E2M1 = [0, 0.5, 1, 1.5, 2, 3, 4, 6]
  const values = Array.from({ length: 3 * 64 }, (_, i) => {
    const nibble = (blocks[96 + (i >> 1)]! >> (4 * (i & 1))) & 15
    return (nibble & 8 ? -1 : 1) * E2M1[nibble & 7]! * 2 ** (scales[6 + (i >> 5)]! - 127)
  })
  expect([...floats].map(value => value + 0)).toEqual(values.map(value => value + 0))
})
