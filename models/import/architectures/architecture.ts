import type { Block, ModelShape } from '../../manifest.ts'
import type { Naming } from '../naming.ts'

/**
 * What tells one architecture from another, as data. To add one that differs in ways that models/manifest-schema.ts
 * knows: a file like the others here, its line in index.ts, a test.
 */
export interface Architecture {
  /** `model_type` in config.json and `general.architecture` in GGUF. */
  name: string
  /** `architectures[0]` in config.json. */
  className: string
  normKind: ModelShape['normKind']
  /** What the decoder layers compute, in turns: one block where all are alike. */
  pattern: readonly Block[]
  /** What config.json leaves out. */
  defaults: { kvHeads?: number; headSize?: number; ropeTheta: number; normEpsilon: number; tied: boolean }
  /** Whether config.json's `sliding_window` limits attention, judged by the rest of it. */
  slidingWindow: (config: { use_sliding_window?: boolean | undefined }) => boolean
  /** GGUF files have the rows of q and k in interleaved rotary order. */
  ggufInterleaved: boolean
  /** Tensors that are called otherwise than Llama's (naming.ts). */
  names?: { huggingFace?: Naming; gguf?: Naming }
}

/** Llama's layer, from which others differ. */
export const LLAMA_BLOCK: Block = {
  attention: { kind: 'grouped-query', bias: 'none', queryKeyNorm: 'none', rotary: 'half-split' },
  feedForward: { kind: 'gated', activation: 'silu' },
  norms: 'before'
}
