import type { Manifest, TensorEntry } from '../../models/manifest.ts'

/** A tensor in float64: a matrix (rows, columns), or a vector as one row. */
export interface Matrix {
  rows: number
  columns: number
  data: Float64Array
  /** Weights in blocks are multiplied with inputs rounded to 8 bits, block by block. */
  blockSize?: number
  /** (rows, columns / blockSize): what is in `data` of each block's weights, but is multiplied with inputs as they are. */
  shifts?: Float64Array
}

/** Reads tensors of a model's layer files, unpacking blocks: scale * (q - 2^(bits - 1)) + shift. */
export class ReferenceWeights {
  readonly manifest: Manifest
  readonly #files: Uint8Array[]
  readonly #read = new Map<string, Matrix | undefined>()

  constructor(manifest: Manifest, files: Uint8Array[]) {
    this.manifest = manifest
    this.#files = files
  }

  /** `columns` cuts off what the last block of a row has too much. */
  get(layer: number, name: string, columns: number): Matrix | undefined {
    const key = `${layer} ${name}`
    if (!this.#read.has(key)) this.#read.set(key, this.#matrix(layer, name, columns))
    return this.#read.get(key)
  }

  #matrix(layer: number, name: string, columns: number): Matrix | undefined {
    const entry = (wanted: string) => this.manifest.layers[layer]!.tensors.find(t => t.name === wanted)
    const plain = entry(name)
    if (plain !== undefined) {
      const data = Float64Array.from(this.#floats(layer, plain))
      return { rows: data.length / columns, columns, data }
    }
    const packed = entry(`${name}.weight`)
    const scales = entry(`${name}.scales`)
    if (packed?.quantization === undefined || scales === undefined) return undefined
    const { bits, blockSize } = packed.quantization
    const [rows = 0, blocks = 0] = packed.shape
    const bytes = this.#bytes(layer, packed)
    const scale = this.#floats(layer, scales)
    const shifts = entry(`${name}.shifts`)
    const shift = shifts && this.#floats(layer, shifts)
    const data = new Float64Array(rows * columns)
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const block = row * blocks + Math.floor(column / blockSize)
        const at = block * blockSize + (column % blockSize)
        const q = bits === 8 ? bytes[at]! : (bytes[at >> 1]! >> (4 * (at & 1))) & 15
        data[row * columns + column] = scale[block]! * (q - 2 ** (bits - 1)) + (shift?.[block] ?? 0)
      }
    }
    return { rows, columns, data, blockSize, ...(shift && { shifts: Float64Array.from(shift) }) }
  }

  #bytes(layer: number, { offset, bytes }: TensorEntry): Uint8Array {
    return this.#files[layer]!.slice(offset, offset + bytes)
  }

  #floats(layer: number, entry: TensorEntry): Float32Array {
    return new Float32Array(this.#bytes(layer, entry).buffer)
  }
}
