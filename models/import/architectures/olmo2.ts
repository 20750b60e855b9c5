import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** OLMo 2: norms behind attention and feed-forward part only, and over all heads of q and k together. */
export const olmo2: Architecture = {
  name: 'olmo2',
  models: 'OLMo 2',
  heldTo: 'llama.cpp',
  className: 'Olmo2ForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'all' }, norms: 'after' }],
  defaults: { ropeTheta: 10_000, normEpsilon: 1e-5, tied: false },
  tokenizerClass: 'GPT2Tokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: false },
  names: { huggingFace: { ffn_post_norm: ['model.layers.#.post_feedforward_layernorm.weight'] } }
}
