import type { CheckpointConfig } from './config.ts'
import type { Naming } from './naming.ts'
import type { WeightSource } from './weights.ts'

/** A checkpoint, opened and checked as far as that goes without reading its weights. */
export interface Checkpoint {
  /** What errors call it. */
  file: string
  config: CheckpointConfig
  naming: Naming
  /** The rows of q and k are in interleaved rotary order. */
  interleaved: boolean
  /** Rows of gate and of up of an expert lie by turns, where one tensor has both. */
  byTurns: boolean
  source: WeightSource
  /** Tensors of parts of it that are not read. */
  dropped: string[]
  /** Those of them that are of layers that guess further tokens. */
  guessing: string[]
  /** tokenizer.json and its companions. */
  files: Map<string, Uint8Array>
  /** What its user should know: where there was a choice, what was chosen and why. */
  notices: string[]
}
