import type { Architecture } from './architecture.ts'
import { qwen3 } from './qwen3.ts'

const { window: _, ...dense } = qwen3

/** Qwen3's mixtures of experts: its dense layer, with experts in its place. */
export const qwen3Moe: Architecture = {
  ...dense,
  name: 'qwen3_moe',
  models: 'Qwen3-30B-A3B, Qwen3-Coder-30B-A3B, Qwen3-235B-A22B',
  className: 'Qwen3MoeForCausalLM',
  ggufName: 'qwen3moe',
  experts: {
    count: { huggingFace: 'num_experts', default: 128 },
    used: { huggingFace: 'num_experts_per_tok', default: 8 },
    size: { huggingFace: 'moe_intermediate_size', default: 768 },
    normalised: { huggingFace: 'norm_topk_prob', default: false, gguf: true },
    dense: 'sparse-step'
  },
  defaults: { kvHeads: 4, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  only: { use_sliding_window: false }
}
