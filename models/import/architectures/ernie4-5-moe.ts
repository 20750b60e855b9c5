import type { Architecture } from './architecture.ts'
import { ernie45 } from './ernie4-5.ts'

/** ERNIE 4.5's mixtures of experts: chosen by a corrected softmax, behind a first layer that is dense. */
export const ernie45Moe: Architecture = {
  ...ernie45,
  name: 'ernie4_5_moe',
  models: 'ERNIE 4.5 21B-A3B, 300B-A47B (text)',
  className: 'Ernie4_5_MoeForCausalLM',
  ggufName: 'ernie4_5-moe',
  experts: {
    count: { huggingFace: 'moe_num_experts', default: 64 },
    used: { huggingFace: 'moe_k', default: 6 },
    size: { huggingFace: 'moe_intermediate_size', default: 1536 },
    normalised: true,
    corrected: true,
    shared: { count: { huggingFace: 'moe_num_shared_experts', default: 2 } },
    dense: { first: { huggingFace: 'moe_layer_start_index', default: 1 }, last: 'moe_layer_end_index' }
  },
  defaults: { heads: 20, kvHeads: 4, vocabSize: 103_424, ropeTheta: 500_000, normEpsilon: 1e-5, tied: true },
  guesses: { huggingFace: 'num_nextn_predict_layers', gguf: 'nextn_predict_layers', prefix: 'model.mtp_' },
  // Sums of weights lie far above what they are at least divided by.
  only: {
    moe_gate: 'topk',
    moe_layer_interval: 1,
    moe_norm_min: 1e-12,
    moe_use_aux_free: true,
    use_bias: false,
    use_rmsnorm: true
  },
  ggufOnly: { interleave_moe_layer_step: 1 },
  ggufIgnores: ['expert_shared_feed_forward_length'],
  // How many tokens an expert takes in training.
  ignores: [...ernie45.ignores, 'moe_capacity'],
  names: {
    huggingFace: {
      router_correction: ['model.layers.#.mlp.moe_statics.e_score_correction_bias'],
      shared_gate_up: ['gate', 'up'].map(p => `model.layers.#.mlp.shared_experts.${p}_proj.weight`),
      shared_down: ['model.layers.#.mlp.shared_experts.down_proj.weight']
    }
  }
}
