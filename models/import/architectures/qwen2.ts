import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Qwen2 and Qwen2.5: biases on q, k and v. */
export const qwen2: Architecture = {
  name: 'qwen2',
  models: 'Qwen2, Qwen2.5, QwQ, DeepSeek-R1 distills of Qwen',
  heldTo: 'llama.cpp',
  className: 'Qwen2ForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, bias: 'qkv' } }],
  defaults: { kvHeads: 32, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  window: { tokens: 4096, optional: true, firstLayer: 28 },
  tokenizerClass: 'Qwen2Tokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: false }
}
