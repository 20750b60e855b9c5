import { cp, readFile, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { e4m3ToFloat32 } from '../../models/formats/float8.ts'

const TILE = 128
/** The largest value of e4m3. */
const MOST = 448
/** All that are not below 0, by their bits. */
const VALUES = e4m3ToFloat32(Uint8Array.from({ length: 127 }, (_, bits) => bits))

interface Entry {
  dtype: string
  shape: number[]
  data_offsets: [number, number]
}

/** Copies a folder of float32 with its projections as 8-bit floats in tiles of 128 by 128, as DeepSeek and Qwen publish theirs. */
export async function writeFp8Folder(from: string, to: string): Promise<void> {
  await cp(from, to, { recursive: true })
  const config = JSON.parse(await readFile(join(from, 'config.json'), 'utf8')) as object
  const quantization_config = {
    ...{ quant_method: 'fp8', fmt: 'e4m3', activation_scheme: 'dynamic' },
    weight_block_size: [TILE, TILE]
  }
  await writeFile(join(to, 'config.json'), JSON.stringify({ ...config, quantization_config }))
  const file = await readFile(join(from, 'model.safetensors'))
  const headerBytes = Number(file.readBigUInt64LE(0))
  const { __metadata__: _, ...tensors } = JSON.parse(file.toString('utf8', 8, 8 + headerBytes)) as Record<
    string,
    Entry
  >
  const header: Record<string, Entry> = {}
  const data: Uint8Array[] = []
  let offset = 0
  const add = (name: string, dtype: string, shape: number[], bytes: Uint8Array) => {
    header[name] = { dtype, shape, data_offsets: [offset, (offset += bytes.byteLength)] }
    data.push(bytes)
  }
  for (const [name, { dtype, shape, data_offsets }] of Object.entries(tensors)) {
    const [start, end] = data_offsets
    const bytes = Uint8Array.from(file.subarray(8 + headerBytes + start, 8 + headerBytes + end))
    if (!/_proj\.weight$/.test(name)) {
      add(name, dtype, shape, bytes)
      continue
    }
    const { codes, scales, tiles } = inTiles(new Float32Array(bytes.buffer), shape as [number, number])
    add(name, 'F8_E4M3', shape, codes)
    add(`${name}_scale_inv`, 'F32', tiles, new Uint8Array(scales.buffer))
  }
  const text = Buffer.from(JSON.stringify(header))
  const size = Buffer.alloc(8)
  size.writeBigUInt64LE(BigInt(text.byteLength))
  await writeFile(join(to, 'model.safetensors'), Buffer.concat([size, text, ...data]))
}

/** Each tile's values as the nearest 8-bit floats times its scale. */
function inTiles(values: Float32Array, [rows, columns]: [number, number]) {
  const tiles = [Math.ceil(rows / TILE), Math.ceil(columns / TILE)]
  const tileOf = (i: number) => Math.floor(i / columns / TILE) * tiles[1]! + Math.floor((i % columns) / TILE)
  const scales = new Float32Array(tiles[0]! * tiles[1]!)
  values.forEach((value, i) => {
    scales[tileOf(i)] = Math.max(scales[tileOf(i)]!, Math.abs(value) / MOST)
  })
  const codes = Uint8Array.from(values, (value, i) => nearest(value / scales[tileOf(i)]!))
  return { codes, scales, tiles }
}

function nearest(value: number): number {
  const size = Math.abs(value)
  let [low, high] = [0, VALUES.length - 1]
  while (high - low > 1) {
    const middle = (low + high) >> 1
    if (VALUES[middle]! <= size) low = middle
    else high = middle
  }
  const code = size - VALUES[low]! <= VALUES[high]! - size ? low : high
  return value < 0 ? code | 0x80 : code
}
