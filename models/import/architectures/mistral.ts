import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Mistral 7B and what followed in its form. */
export const mistral: Architecture = {
  name: 'mistral',
  models: 'Mistral 7B, Nemo, Small 3.x, Devstral, Magistral',
  heldTo: 'llama.cpp',
  className: 'MistralForCausalLM',
  ggufName: 'llama',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  defaults: { kvHeads: 8, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  window: { tokens: 4096, optional: false },
  tokenizerClass: 'LlamaTokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: true }
}
