import type { LayerFile, Quantization } from '../manifest.ts'
import { type GraphBuilder, int64 } from './builder.ts'

/** int8 inside: activations are rounded to 8 bits a block. 4 to 300 times faster than the float kernels. */
const ACCURACY_INT8 = 4

/** The tensors of one layer's file as constants of a graph. */
export class LayerWeights {
  readonly #graph: GraphBuilder
  readonly #prefix: string
  readonly #file: LayerFile
  readonly #part: { index: number; count: number } | undefined

  /** @param part which of equal parts that the rows of each tensor fall into; absent: all rows */
  constructor(graph: GraphBuilder, prefix: string, file: LayerFile, part?: { index: number; count: number }) {
    this.#graph = graph
    this.#prefix = prefix
    this.#file = file
    this.#part = part
  }

  /** Part `index` of `count` equal ones that the rows of each tensor fall into, as constants of a branch. */
  slice(branch: GraphBuilder, index: number, count: number): LayerWeights {
    return new LayerWeights(branch, `${this.#prefix}@${index}`, this.#file, { index, count })
  }

  /** A tensor as external data, in the file that is named by the layer's SHA-256. */
  constant(name: string, dims?: number[]): string {
    const { type, shape, offset, bytes } = this.entry(name)
    const data = { file: this.#file.sha256, offset, bytes }
    return this.#graph.constant(`${this.#prefix}.${name}`, type, dims ?? shape, data)
  }

  /** How the projection `name` (columns inputs) is packed, undefined for float32. */
  blocks(name: string): (Quantization & { rows: number }) | undefined {
    const tensor = this.#file.tensors.find(t => t.name === `${name}.weight`)
    const rows = tensor?.shape[0]
    if (tensor?.quantization === undefined || rows === undefined) return undefined
    return { ...tensor.quantization, rows: rows / (this.#part?.count ?? 1) }
  }

  /**
   * x (..., columns) times the projection's weight (out, columns) transposed, plus its bias: (..., out).
   *
   * @param options.rank how many dimensions x has.
   */
  project(
    name: string,
    columns: number,
    x: string,
    options: { bias?: string; output?: string; rank?: 2 | 3 } = {}
  ): string {
    const { bias, output, rank = 3 } = options
    const blocks = this.blocks(name)
    if (blocks === undefined) {
      const attributes = { transB: 1 }
      if (bias === undefined) {
        return this.#graph.contrib('FusedMatMul', [x, this.constant(name)], attributes, output)
      }
      const product = this.#graph.contrib('FusedMatMul', [x, this.constant(name)], attributes)
      return this.#graph.onnx('Add', [product, this.constant(bias)], {}, output)
    }
    const { bits, blockSize, rows, shifted } = blocks
    const scales = this.constant(`${name}.scales`, [rows * Math.ceil(columns / blockSize)])
    const inputs = [x, this.constant(`${name}.weight`), scales]
    if (bias !== undefined) inputs.push('', '', this.constant(bias))
    const attributes = { K: columns, N: rows, bits, block_size: blockSize, accuracy_level: ACCURACY_INT8 }
    if (!shifted) return this.#graph.contrib('MatMulNBits', inputs, attributes, output)
    const product = this.#graph.contrib('MatMulNBits', inputs, attributes)
    const shift = this.#shift(name, columns / blockSize, blockSize, x, rank)
    return this.#graph.onnx('Add', [product, shift], {}, output)
  }

  /**
   * What the shifts of a projection add: each is the same for a block of inputs, so it is multiplied with their sum.
   * MatMulNBits takes float zero points too, but computes them a hundred times slower.
   */
  #shift(name: string, blocks: number, blockSize: number, x: string, rank: 2 | 3): string {
    // 0 keeps a dimension as it is.
    const outer = rank === 3 ? [0n, 0n] : [0n]
    const dims = int64(this.#graph, [...outer, BigInt(blocks), BigInt(blockSize)])
    const inBlocks = this.#graph.onnx('Reshape', [x, dims])
    const sums = this.#graph.onnx('ReduceSum', [inBlocks, int64(this.#graph, [BigInt(rank)])], {
      keepdims: 0
    })
    return this.#graph.contrib('FusedMatMul', [sums, this.constant(`${name}.shifts`)], { transB: 1 })
  }

  entry(name: string) {
    const tensor = this.#file.tensors.find(t => t.name === name)
    if (tensor === undefined) throw new Error(`${this.#prefix} has no tensor ${name}`)
    if (this.#part === undefined) return tensor
    const { index, count } = this.#part
    const [rows = 0, ...others] = tensor.shape
    const bytes = tensor.bytes / count
    return { ...tensor, shape: [rows / count, ...others], offset: tensor.offset + index * bytes, bytes }
  }
}
