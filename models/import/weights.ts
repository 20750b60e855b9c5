import type { Quantization } from '../manifest.ts'
import type { PackedRows } from '../quantize.ts'

/** The tensors of a checkpoint under the checkpoint's own names. */
export interface WeightSource {
  /** Every name there is. */
  readonly names: Iterable<string>
  /** (out, in) of a projection or (length), or undefined where there is no such tensor. */
  dims(name: string): number[] | undefined
  /** The blocks of 4 or 8 bits in which a tensor's values can be kept exactly; undefined for floats. */
  packing(name: string): Quantization | undefined
  /**
   * Rows [start, end) as floats; a norm or bias counts as rows of one value.
   *
   * @throws {CheckpointError} or {UnsupportedModelError} when its values cannot be read.
   */
  floats(name: string, start: number, end: number): Promise<Float32Array>
  /** Rows [start, end) in the blocks that `packing` names, or in smaller or wider ones. */
  blocks(name: string, start: number, end: number, packing: Quantization): Promise<PackedRows>
  close(): Promise<void>
}

/** One of the checkpoint's tensors that make up one of ours. */
export interface Part {
  name: string
  rows: number
  /** Heads whose rows are to be brought from interleaved into half-split rotary order. */
  interleavedHeads?: number
}
