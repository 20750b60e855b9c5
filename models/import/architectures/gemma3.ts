import { type Architecture, LLAMA_BLOCK } from './architecture.ts'
import { gemma2 } from './gemma2.ts'

/** Gemma 3, its text part: five of six layers with a window and a base of their own, a norm on every head of q and k. */
export const gemma3: Architecture = {
  ...gemma2,
  name: 'gemma3',
  models: 'Gemma 3 (text)',
  heldTo: 'llama.cpp',
  className: 'Gemma3ForCausalLM',
  modelType: 'gemma3_text',
  pattern: [
    {
      attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head' },
      feedForward: { kind: 'gated', activation: 'gelu-tanh' },
      norms: 'around'
    }
  ],
  defaults: {
    heads: 8,
    kvHeads: 4,
    headSize: 256,
    vocabSize: 262_208,
    contextLength: 131_072,
    ropeTheta: 1_000_000,
    normEpsilon: 1e-6,
    tied: true
  },
  window: {
    tokens: 4096,
    optional: false,
    fullEvery: 6,
    rope: { huggingFace: 'rope_local_base_freq', gguf: 'rope.freq_base_swa', theta: 10_000 }
  },
  attentionScale: { huggingFace: 'query_pre_attn_scalar', default: 256, ofRoot: true, ggufByHidden: [62] },
  softcaps: {
    attention: { huggingFace: 'attn_logit_softcapping', gguf: 'attn_logit_softcapping' },
    logits: { huggingFace: 'final_logit_softcapping', gguf: 'final_logit_softcapping' }
  }
}
