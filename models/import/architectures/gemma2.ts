import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Gemma 2: norms around both parts, every other layer with a window, scores and logits kept within caps. */
export const gemma2: Architecture = {
  name: 'gemma2',
  models: 'Gemma 2',
  heldTo: 'llama.cpp',
  className: 'Gemma2ForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, feedForward: { kind: 'gated', activation: 'gelu-tanh' }, norms: 'around' }],
  defaults: {
    heads: 8,
    kvHeads: 4,
    headSize: 256,
    vocabSize: 256_000,
    contextLength: 8192,
    ropeTheta: 10_000,
    normEpsilon: 1e-6,
    tied: true
  },
  window: { tokens: 4096, optional: false, fullEvery: 2 },
  scales: { embedding: 'sqrt(hidden)' },
  attentionScale: { huggingFace: 'query_pre_attn_scalar', default: 256, ofRoot: true, ggufByHidden: [46] },
  softcaps: {
    attention: { huggingFace: 'attn_logit_softcapping', gguf: 'attn_logit_softcapping', default: 50 },
    logits: { huggingFace: 'final_logit_softcapping', gguf: 'final_logit_softcapping', default: 30 }
  },
  only: { use_bidirectional_attention: false },
  normsLackOne: true,
  tokenizerClass: 'GemmaTokenizer',
  activationKeys: ['hidden_activation'],
  ignores: [...OF_OTHER_CLASSES, 'sliding_window_size'],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      ffn_norm: ['model.layers.#.pre_feedforward_layernorm.weight'],
      ffn_post_norm: ['model.layers.#.post_feedforward_layernorm.weight']
    }
  }
}
