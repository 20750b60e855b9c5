import type { Architecture } from './architecture.ts'
import { qwen2 } from './qwen2.ts'

const { window: _, ...dense } = qwen2

/** Qwen2's mixtures of experts: one more expert computes every token, times a gate. */
export const qwen2Moe: Architecture = {
  ...dense,
  name: 'qwen2_moe',
  models: 'Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B',
  className: 'Qwen2MoeForCausalLM',
  ggufName: 'qwen2moe',
  experts: {
    count: { huggingFace: 'num_experts', default: 60 },
    used: { huggingFace: 'num_experts_per_tok', default: 4 },
    size: { huggingFace: 'moe_intermediate_size', default: 1408 },
    normalised: { huggingFace: 'norm_topk_prob', default: false, gguf: false },
    shared: { size: { huggingFace: 'shared_expert_intermediate_size', default: 5632 }, gated: true },
    dense: 'sparse-step'
  },
  defaults: { kvHeads: 16, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  only: { use_sliding_window: false, qkv_bias: true }
}
