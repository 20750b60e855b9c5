import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Granite 3 and 4, the dense ones: Llama's layer with four factors. */
export const granite: Architecture = {
  name: 'granite',
  models: 'Granite 3 and 4, dense',
  heldTo: 'llama.cpp',
  className: 'GraniteForCausalLM',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  defaults: { ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  scales: {
    embedding: { huggingFace: 'embedding_multiplier', gguf: 'embedding_scale', default: 1 },
    residual: { huggingFace: 'residual_multiplier', gguf: 'residual_scale', default: 1 },
    logitDivisor: { huggingFace: 'logits_scaling', gguf: 'logit_scale', default: 1 }
  },
  attentionScale: { huggingFace: 'attention_multiplier', gguf: 'attention.scale', default: 1 },
  tokenizerClass: 'GPT2Tokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: true }
}
