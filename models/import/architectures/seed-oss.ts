import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Seed-OSS: Llama's layer with biases of q, k and v. */
export const seedOss: Architecture = {
  name: 'seed_oss',
  models: 'Seed-OSS 36B',
  heldTo: 'float64',
  className: 'SeedOssForCausalLM',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  defaults: { kvHeads: 8, headSize: 128, ropeTheta: 10_000_000, normEpsilon: 1e-6, tied: false },
  attentionBias: true,
  only: { attention_out_bias: false },
  tokenizerClass: 'PreTrainedTokenizerFast',
  ignores: [...OF_OTHER_CLASSES, 'residual_dropout'],
  interleaved: { huggingFace: false, gguf: false },
  names: { gguf: { ffn_norm: ['blk.#.post_attention_norm.weight'] } }
}
