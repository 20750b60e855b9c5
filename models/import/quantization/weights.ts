import type { Quantization } from '../../manifest.ts'
import type { HuggingFaceWeights } from '../hugging-face-weights.ts'
import type { RawRows, SourceOrigin, WeightSource } from '../weights.ts'
import { awqTensor } from './awq.ts'
import { compressedTensor } from './compressed-tensors.ts'
import type { QuantizationScheme } from './config.ts'
import { fp8Tensor } from './fp8.ts'
import { gptqTensor } from './gptq.ts'
import { mlxTensor } from './mlx.ts'
import { mxfp4Tensor } from './mxfp4.ts'
import type { QuantizedTensor, RowReader } from './tensor-files.ts'

/** By which of its tensors a quantised projection is known. */
const MARKS = {
  fp8: /\.weight_scale(_inv)?$/,
  awq: /\.qweight$/,
  gptq: /\.qweight$/,
  'compressed-tensors': /\.weight_scale$/,
  mxfp4: /_blocks$/,
  mlx: /\.scales$/
} as const
/** Scales of inputs, which are rounded here as everywhere. */
const OF_INPUTS = /\.(input_scale|input_zero_point|output_scale|[kv]_scale)$/

/** A folder's tensors, of which some are quantised: each of those is one tensor under the name that it has as floats. */
export class QuantizedWeights implements WeightSource {
  readonly #base: HuggingFaceWeights
  readonly #scheme: QuantizationScheme
  readonly #tensors: ReadonlyMap<string, QuantizedTensor>
  readonly #hidden: ReadonlySet<string>
  /** What was read last: a projection's rows come one behind the other. */
  #open: { name: string; reader: Promise<RowReader> } | undefined

  private constructor(
    base: HuggingFaceWeights,
    scheme: QuantizationScheme,
    tensors: Map<string, QuantizedTensor>
  ) {
    this.#base = base
    this.#scheme = scheme
    this.#tensors = tensors
    const parts = [...tensors.values()].flatMap(({ parts, beside = [] }) => [...parts, ...beside])
    this.#hidden = new Set([...parts, ...[...base.names].filter(name => OF_INPUTS.test(name))])
  }

  /** @throws {CheckpointError} or {UnsupportedModelError} naming a tensor that does not fit its companions. */
  static async of(base: HuggingFaceWeights, scheme: QuantizationScheme): Promise<QuantizedWeights> {
    const tensors = new Map<string, QuantizedTensor>()
    for (const name of base.names) {
      const [mark] = MARKS[scheme.method].exec(name) ?? []
      if (mark === undefined) continue
      const module = name.slice(0, name.length - mark.length)
      tensors.set(
        scheme.method === 'mxfp4' ? module : `${module}.weight`,
        await tensorOf(base, module, name, scheme)
      )
    }
    return new QuantizedWeights(base, scheme, tensors)
  }

  get origin(): SourceOrigin {
    return { ...this.#base.origin, quantization: this.#scheme }
  }

  get files(): WeightSource['files'] {
    return this.#base.files
  }

  get names(): Iterable<string> {
    return new Set([
      ...[...this.#base.names].filter(name => !this.#hidden.has(name)),
      ...this.#tensors.keys()
    ])
  }

  dims(name: string): number[] | undefined {
    return this.#tensors.get(name)?.dims ?? (this.#hidden.has(name) ? undefined : this.#base.dims(name))
  }

  type(name: string): string {
    return this.#tensors.get(name)?.type ?? this.#base.type(name)
  }

  bytes(name: string): number {
    const parts = this.#tensors.get(name)?.parts ?? [name]
    return parts.reduce((sum, part) => sum + this.#base.bytes(part), 0)
  }

  packing(name: string): Quantization | undefined {
    return this.#tensors.get(name)?.packing
  }

  async read(name: string, start: number, end: number): Promise<RawRows> {
    const tensor = this.#tensors.get(name)
    if (tensor === undefined) return await this.#base.read(name, start, end)
    if (this.#open?.name !== name) this.#open = { name, reader: tensor.open() }
    const reader = await this.#open.reader
    return await reader(start, end)
  }

  async close(): Promise<void> {
    await this.#base.close()
  }
}

async function tensorOf(
  base: HuggingFaceWeights,
  module: string,
  mark: string,
  scheme: QuantizationScheme
): Promise<QuantizedTensor> {
  switch (scheme.method) {
    case 'fp8':
      return fp8Tensor(base, module, mark, scheme.blockSize)
    case 'awq':
      return awqTensor(base, module, scheme.groupSize)
    case 'gptq':
      return await gptqTensor(base, module, scheme)
    case 'compressed-tensors':
      return compressedTensor(base, module, scheme)
    case 'mxfp4':
      return mxfp4Tensor(base, module)
    case 'mlx':
      return mlxTensor(base, module, scheme.groupSizes[module] ?? scheme.groupSize)
  }
}
