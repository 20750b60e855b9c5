import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Llama 1 to 3.3 and the many checkpoints in their form (TinyLlama, SmolLM2, Yi). */
export const llama: Architecture = {
  name: 'llama',
  models: 'Llama 1 to 3.3, TinyLlama, SmolLM2, Yi, Falcon3, DeepSeek-R1 distills of Llama',
  heldTo: 'llama.cpp',
  className: 'LlamaForCausalLM',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  defaults: { ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  tokenizerClass: 'LlamaTokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: true }
}
