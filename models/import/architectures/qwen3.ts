import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Qwen3, the dense ones: no biases, but a norm on every head of q and k. */
export const qwen3: Architecture = {
  name: 'qwen3',
  models: 'Qwen3 dense, DeepSeek-R1-0528-Qwen3-8B',
  heldTo: 'llama.cpp',
  className: 'Qwen3ForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head' } }],
  defaults: { kvHeads: 32, headSize: 128, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  window: { tokens: 4096, optional: true, firstLayer: 28 },
  tokenizerClass: 'Qwen2Tokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: false }
}
