import type { LayerFile } from '../manifest.ts'
import type { GraphBuilder } from './builder.ts'

/** int8 inside: activations are rounded to 8 bits a block. 4 to 300 times faster than the float kernels. */
const ACCURACY_INT8 = 4

/** The tensors of one layer's file as constants of a graph. */
export class LayerWeights {
  readonly #graph: GraphBuilder
  readonly #prefix: string
  readonly #file: LayerFile

  constructor(graph: GraphBuilder, layer: number, file: LayerFile) {
    this.#graph = graph
    this.#prefix = `layer${layer}`
    this.#file = file
  }

  has(name: string): boolean {
    return this.#file.tensors.some(t => t.name === name)
  }

  /** A tensor as external data, in the file that is named by the layer's SHA-256. */
  constant(name: string, dims?: number[]): string {
    const { type, shape, offset, bytes } = this.entry(name)
    const data = { file: this.#file.sha256, offset, bytes }
    return this.#graph.constant(`${this.#prefix}.${name}`, type, dims ?? shape, data)
  }

  /** How the projection `name` (columns inputs) is packed, undefined for float32. */
  blocks(name: string): { bits: 4 | 8; blockSize: number; rows: number } | undefined {
    const tensor = this.#file.tensors.find(t => t.name === `${name}.weight`)
    const rows = tensor?.shape[0]
    return tensor?.quantization && rows !== undefined ? { ...tensor.quantization, rows } : undefined
  }

  /** x (..., columns) times the projection's weight (out, columns) transposed, plus its bias: (..., out). */
  project(
    name: string,
    columns: number,
    x: string,
    options: { bias?: string; output?: string } = {}
  ): string {
    const { bias, output } = options
    const blocks = this.blocks(name)
    if (blocks === undefined) {
      const attributes = { transB: 1 }
      if (bias === undefined) {
        return this.#graph.contrib('FusedMatMul', [x, this.constant(name)], attributes, output)
      }
      const product = this.#graph.contrib('FusedMatMul', [x, this.constant(name)], attributes)
      return this.#graph.onnx('Add', [product, this.constant(bias)], {}, output)
    }
    const { bits, blockSize, rows } = blocks
    const scales = this.constant(`${name}.scales`, [rows * Math.ceil(columns / blockSize)])
    const inputs = [x, this.constant(`${name}.weight`), scales]
    if (bias !== undefined) inputs.push('', '', this.constant(bias))
    const attributes = { K: columns, N: rows, bits, block_size: blockSize, accuracy_level: ACCURACY_INT8 }
    return this.#graph.contrib('MatMulNBits', inputs, attributes, output)
  }

  entry(name: string) {
    const tensor = this.#file.tensors.find(t => t.name === name)
    if (tensor === undefined) throw new Error(`${this.#prefix} has no tensor ${name}`)
    return tensor
  }
}
