import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** MiniMax-M2: Mixtral's names, norms over all heads of q and k together, half of each head turned, a corrected router. */
export const minimaxM2: Architecture = {
  name: 'minimax_m2',
  models: 'MiniMax-M2, M2.1',
  heldTo: 'float64',
  className: 'MiniMaxM2ForCausalLM',
  ggufName: 'minimax-m2',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'all' } }],
  experts: {
    count: { huggingFace: 'num_local_experts', default: 256 },
    used: { huggingFace: 'num_experts_per_tok', default: 8 },
    size: { huggingFace: 'intermediate_size', default: 1536 },
    normalised: true,
    router: 'sigmoid',
    corrected: true
  },
  defaults: {
    ...{ heads: 48, kvHeads: 8, headSize: 128, vocabSize: 200_064, contextLength: 196_608 },
    ...{ ropeTheta: 5_000_000, normEpsilon: 1e-6, tied: false }
  },
  partialRotary: 0.5,
  rotatedKey: 'rotary_dim',
  only: {
    ...{ scoring_func: 'sigmoid', use_routing_bias: true, use_qk_norm: true, qk_norm_type: 'per_layer' },
    // All layers attend to all tokens, no expert computes all of them, and streams have no factors.
    ...{ attn_type_list: 1, shared_intermediate_size: 0, layernorm_full_attention_beta: 1 },
    ...{ layernorm_linear_attention_beta: 1, layernorm_mlp_beta: 1 }
  },
  tokenizerClass: 'GPT2Tokenizer',
  ignores: [
    ...OF_OTHER_CLASSES,
    ...['use_mtp', 'num_mtp_modules', 'mtp_transformer_layers', 'mlp_intermediate_size', 'shared_moe_mode'],
    'max_model_len'
  ],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      router: ['model.layers.#.block_sparse_moe.gate.weight'],
      router_correction: ['model.layers.#.block_sparse_moe.e_score_correction_bias'],
      expert_gate_up: ['w1', 'w3'].map(p => `model.layers.#.block_sparse_moe.experts.@.${p}.weight`),
      expert_down: ['model.layers.#.block_sparse_moe.experts.@.w2.weight']
    }
  }
}
