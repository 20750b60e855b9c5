import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Phi-3 and what followed in its form: rows of q, k and v in one tensor, those of gate and up in another. */
export const phi3: Architecture = {
  name: 'phi3',
  models: 'Phi-3, Phi-3.5, Phi-4, Phi-4-mini',
  heldTo: 'llama.cpp',
  className: 'Phi3ForCausalLM',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  defaults: { ropeTheta: 10_000, normEpsilon: 1e-5, tied: false },
  window: { tokens: null, optional: false },
  partialRotary: 1,
  only: { lm_head_bias: false },
  tokenizerClass: 'LlamaTokenizer',
  ignores: [...OF_OTHER_CLASSES, 'full_attn_mod', 'interpolate_factor'],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      qkv: ['model.layers.#.self_attn.qkv_proj.weight'],
      gate_up: ['model.layers.#.mlp.gate_up_proj.weight']
    },
    gguf: { qkv: ['blk.#.attn_qkv.weight'], gate_up: ['blk.#.ffn_up.weight'] }
  }
}
