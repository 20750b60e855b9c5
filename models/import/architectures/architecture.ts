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
  /** Its class in transformers has windows; absent: it reads no such key. */
  window?: {
    /** `sliding_window` where config.json leaves it out. */
    tokens: number
    /** Only with `use_sliding_window: true`, which is off where it is left out. */
    optional: boolean
    /** The first layer with a window, from 0, where config.json leaves `max_window_layers` out; absent: all have one. */
    firstLayer?: number
  }
  /** The tokenizer's class where tokenizer_config.json does not say it (transformers' AutoTokenizer). */
  tokenizerClass: string
  /** Keys of config.json that its class in transformers does not read, though others do. */
  ignores: readonly string[]
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
