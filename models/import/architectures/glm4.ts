import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** GLM-4 of 0414: half of each head turned, norms around both parts, rows of gate and up in one tensor. */
export const glm4: Architecture = {
  name: 'glm4',
  models: 'GLM-4-0414 (9B and 32B), GLM-Z1',
  heldTo: 'float64',
  className: 'Glm4ForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, norms: 'around' }],
  defaults: { kvHeads: 2, headSize: 128, ropeTheta: 10_000, normEpsilon: 1.5625e-7, tied: false },
  partialRotary: 0.5,
  attentionBias: false,
  tokenizerClass: 'PreTrainedTokenizerFast',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: true, gguf: true },
  names: {
    huggingFace: {
      attention_post_norm: ['model.layers.#.post_self_attn_layernorm.weight'],
      gate_up: ['model.layers.#.mlp.gate_up_proj.weight'],
      ffn_post_norm: ['model.layers.#.post_mlp_layernorm.weight']
    },
    gguf: { gate_up: ['blk.#.ffn_up.weight'] }
  }
}
