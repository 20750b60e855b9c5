import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** GLM-4.5 and on: experts chosen by a corrected score, behind first layers that are dense; half of each head turned. */
export const glm4Moe: Architecture = {
  name: 'glm4_moe',
  models: 'GLM-4.5, 4.5-Air, 4.6, 4.7',
  heldTo: 'llama.cpp',
  className: 'Glm4MoeForCausalLM',
  ggufName: 'glm4moe',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  experts: {
    count: { huggingFace: 'n_routed_experts', default: 128 },
    used: { huggingFace: 'num_experts_per_tok', default: 8 },
    size: { huggingFace: 'moe_intermediate_size', default: 1408 },
    normalised: { huggingFace: 'norm_topk_prob', default: true, gguf: false, ggufSays: true },
    router: 'sigmoid',
    corrected: true,
    scale: { huggingFace: 'routed_scaling_factor', gguf: 'expert_weights_scale', default: 1 },
    shared: { count: { huggingFace: 'n_shared_experts', default: 1 } },
    dense: { first: { huggingFace: 'first_k_dense_replace', default: 1 } }
  },
  defaults: { heads: 96, kvHeads: 8, vocabSize: 151_552, ropeTheta: 10_000, normEpsilon: 1e-5, tied: false },
  partialRotary: 0.5,
  attentionBias: false,
  queryKeyNorm: { huggingFace: 'use_qk_norm', default: false },
  guesses: { huggingFace: 'num_nextn_predict_layers', gguf: 'nextn_predict_layers', joins: 'token-first' },
  // Experts in groups, of which the best ones are looked at, are another router.
  only: { n_group: 1, topk_group: 1 },
  tokenizerClass: 'PreTrainedTokenizerFast',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      shared_gate_up: ['gate', 'up'].map(p => `model.layers.#.mlp.shared_experts.${p}_proj.weight`),
      shared_down: ['model.layers.#.mlp.shared_experts.down_proj.weight']
    },
    gguf: { ffn_norm: ['blk.#.post_attention_norm.weight'] }
  }
}
