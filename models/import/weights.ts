import type { GgufTable } from '../formats/gguf.ts'
import type { Quantization } from '../manifest.ts'
import type { PackedRows } from '../quantize.ts'
import type { QuantizationScheme } from './quantization/config.ts'

/** What another thread needs to read the same tensors. */
export type SourceOrigin =
  | {
      format: 'safetensors'
      dir: string
      quantization?: QuantizationScheme
      /** Stacks of floats that lie as (stack, in, out). */
      transposed?: readonly string[]
    }
  | { format: 'gguf'; table: GgufTable }

/** The tensors of a checkpoint under the checkpoint's own names. */
export interface WeightSource {
  readonly origin: SourceOrigin
  /** Every name there is. */
  readonly names: Iterable<string>
  /** (out, in) of a projection, (stack, out, in) of several or (length); undefined where there is no such tensor. */
  dims(name: string): number[] | undefined
  /** What its file calls the type of a tensor's values. */
  type(name: string): string
  /** What a tensor takes in its file. */
  bytes(name: string): number
  /** The blocks of 4 or 8 bits in which a tensor's values can be kept exactly; undefined for floats. */
  packing(name: string): Quantization | undefined
  /**
   * Reads rows [start, end) as the file has them, of all projections of a stack; a norm or bias counts as rows of one value. What is returned may lie in
   * memory that the read after the next one uses again.
   *
   * @throws {CheckpointError} or {UnsupportedModelError} when they cannot be read.
   */
  read(name: string, start: number, end: number): Promise<RawRows>
  /** The files that tensors are read from, with what they were when they were opened. */
  readonly files: readonly { path: string; identity: string | undefined }[]
  close(): Promise<void>
}

/** Rows of a tensor of these dimensions, as `read` counts them. */
export function rowsIn(dims: readonly number[]): number {
  return dims.slice(0, Math.max(1, dims.length - 1)).reduce((product, n) => product * n, 1)
}

/** Rows of a tensor before they are decoded. */
export interface RawRows {
  floats(): Float32Array
  /** Writes them in the blocks that `packing` names: those of the source, or smaller or wider ones. */
  pack(packing: Quantization, into: PackedRows): void
}

/** One of the checkpoint's tensors that make up one of ours. */
export interface Part {
  name: string
  rows: number
  /** The first of them, where they are one of `stack` projections in a tensor. @default 0 */
  start?: number
  stack?: number
  /** The first of them, where they are some of so many rows of a tensor. */
  of?: number
  /** Heads whose first `rotated` rows are to be brought from interleaved into half-split order: a first and a second half by turns. */
  interleaved?: {
    heads: number
    rotated: number
    /** Rows of each head before those. @default 0 */
    first?: number
  }
  /** What its values are multiplied with, and what is then added to them. */
  factor?: number
  summand?: number
  /** Its values stand for what is below 0: for x, that is -exp(x). */
  isLogarithm?: true
}
