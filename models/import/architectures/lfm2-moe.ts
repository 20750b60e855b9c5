import type { Architecture } from './architecture.ts'
import { lfm2 } from './lfm2.ts'

const { adjustsFfnSize: _, ...dense } = lfm2

/** LFM2's mixtures of experts: chosen by a corrected score, behind first layers that are dense. */
export const lfm2Moe: Architecture = {
  ...dense,
  name: 'lfm2_moe',
  models: 'LFM2-8B-A1B, LFM2.5-8B-A1B, LFM2-24B-A2B',
  heldTo: 'float64',
  className: 'Lfm2MoeForCausalLM',
  ggufName: 'lfm2moe',
  experts: {
    count: { huggingFace: 'num_experts', default: 32 },
    used: { huggingFace: 'num_experts_per_tok', default: 4 },
    size: { huggingFace: 'moe_intermediate_size', default: 1792 },
    normalised: { huggingFace: 'norm_topk_prob', default: true, gguf: true },
    router: 'sigmoid',
    corrected: true,
    scale: { huggingFace: 'routed_scaling_factor', gguf: 'expert_weights_scale', default: 1 },
    dense: { first: { huggingFace: 'num_dense_layers', default: 2 } }
  },
  // What is added to sums of weights before they divide is far below them.
  only: { conv_bias: false, use_expert_bias: true },
  ignores: lfm2.ignores.filter(key => key !== 'num_experts_per_tok'),
  names: {
    ...lfm2.names,
    huggingFace: {
      ...lfm2.names?.huggingFace,
      router: ['model.layers.#.feed_forward.gate.weight'],
      router_correction: ['model.layers.#.feed_forward.expert_bias'],
      expert_gate_up: ['1', '3'].map(n => `model.layers.#.feed_forward.experts.@.w${n}.weight`),
      expert_down: ['model.layers.#.feed_forward.experts.@.w2.weight']
    }
  }
}
