import type { GgufFile } from '../formats/gguf.ts'
import type { GgufTensor } from '../formats/gguf-header.ts'
import { widen } from '../formats/gguf-symmetric.ts'
import type { GgufType } from '../formats/gguf-types.ts'
import type { Quantization } from '../manifest.ts'
import { allocateBlocks, type PackedRows } from '../quantize.ts'
import { ROPE_TENSORS } from './gguf-rope.ts'
import { TransposedStack } from './transposed.ts'
import { type RawRows, rowsIn, type SourceOrigin, type WeightSource } from './weights.ts'

/** Rotary frequencies follow from the configuration: ours is derived from these tensors. */
const NOT_WEIGHTS = new Set(ROPE_TENSORS)

/** Lies as (heads, in, out). */
const TRANSPOSED = '.attn_k_b.weight'

/** A GGUF file's tensors, in its own blocks. */
export class GgufWeights implements WeightSource {
  readonly #file: GgufFile
  readonly #buffers: Uint8Array<ArrayBuffer>[] = []
  #turn = 0
  /** The last one that is transposed: one at a time, for it holds a projection. */
  #stack: { name: string; rows: TransposedStack } | undefined

  constructor(file: GgufFile) {
    this.#file = file
  }

  get origin(): SourceOrigin {
    return { format: 'gguf', table: this.#file.table() }
  }

  get files(): WeightSource['files'] {
    return this.#file.files
  }

  get names(): Iterable<string> {
    return [...this.#file.tensors.keys()].filter(name => !NOT_WEIGHTS.has(name))
  }

  dims(name: string): number[] | undefined {
    const dims = this.#file.tensors.get(name)?.dims
    if (dims === undefined || !isTransposed(name, dims)) return dims
    const [stack = 0, inputs = 0, outputs = 0] = dims
    return [stack, outputs, inputs]
  }

  type(name: string): string {
    return this.#tensor(name).type.name
  }

  bytes(name: string): number {
    return this.#tensor(name).bytes
  }

  packing(name: string): Quantization | undefined {
    const { type, dims } = this.#tensor(name)
    return isTransposed(name, dims) ? undefined : type.packing
  }

  async read(name: string, start: number, end: number): Promise<RawRows> {
    const { type, ...tensor } = this.#tensor(name)
    if (isTransposed(name, tensor.dims)) {
      const values = await this.#transposed(name).rows(start, end)
      return {
        floats: () => values,
        pack: () => {
          throw new Error(`${name} is read as floats, not as blocks`)
        }
      }
    }
    const rowBytes = tensor.bytes / rowsIn(tensor.dims)
    const bytes = this.#scratch((end - start) * rowBytes)
    await this.#file.read(tensor, start * rowBytes, bytes)
    const count = bytes.byteLength / type.blockBytes
    return {
      floats: () => type.floats(bytes, count),
      pack: (packing, into) => pack(type, bytes, count, packing, into)
    }
  }

  async close(): Promise<void> {
    await this.#file.close()
  }

  #transposed(name: string): TransposedStack {
    if (this.#stack?.name === name) return this.#stack.rows
    const { type, ...tensor } = this.#tensor(name)
    const rows = new TransposedStack(tensor.dims, async (start, end) => {
      const bytes = new Uint8Array(((end - start) / type.blockElements) * type.blockBytes)
      await this.#file.read(tensor, (start / type.blockElements) * type.blockBytes, bytes)
      return type.floats(bytes, (end - start) / type.blockElements)
    })
    this.#stack = { name, rows }
    return rows
  }

  #tensor(name: string): GgufTensor {
    return this.#file.tensors.get(name)!
  }

  /** Two buffers in turn: fresh ones of this size cost more than the arithmetic on them. */
  #scratch(bytes: number): Uint8Array<ArrayBuffer> {
    this.#turn = 1 - this.#turn
    if ((this.#buffers[this.#turn]?.byteLength ?? 0) < bytes)
      this.#buffers[this.#turn] = new Uint8Array(bytes)
    return this.#buffers[this.#turn]!.subarray(0, bytes)
  }
}

function isTransposed(name: string, dims: readonly number[]): boolean {
  return dims.length === 3 && name.endsWith(TRANSPOSED)
}

function pack(
  type: GgufType,
  bytes: Uint8Array,
  count: number,
  packing: Quantization,
  into: PackedRows
): void {
  const own = type.packing!
  if (own.bits === packing.bits && own.blockSize === packing.blockSize && own.shifted === packing.shifted) {
    type.pack!(bytes, count, into)
    return
  }
  const packed = allocateBlocks((count * type.blockElements) / own.blockSize, own)
  type.pack!(bytes, count, packed)
  widen(packed, own, packing, into)
}
