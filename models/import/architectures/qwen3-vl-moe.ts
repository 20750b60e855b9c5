import type { Architecture } from './architecture.ts'
import { qwen3Vl } from './qwen3-vl.ts'

/** The text part of Qwen3-VL's mixtures of experts, whose files have all of a layer in one tensor, turned. */
export const qwen3VlMoe: Architecture = {
  ...qwen3Vl,
  name: 'qwen3_vl_moe',
  models: 'the text part of Qwen3-VL with experts',
  className: 'Qwen3VLMoeTextModel',
  modelType: 'qwen3_vl_moe_text',
  ggufName: 'qwen3vlmoe',
  experts: {
    count: { huggingFace: 'num_experts', default: 60 },
    used: { huggingFace: 'num_experts_per_tok', default: 4 },
    size: { huggingFace: 'moe_intermediate_size', default: 1408 },
    normalised: true,
    stacks: { transposed: true },
    dense: 'sparse-step'
  },
  only: { norm_topk_prob: true },
  defaults: { ...qwen3Vl.defaults, kvHeads: 16 },
  names: {
    huggingFace: {
      expert_gate_up: ['model.layers.#.mlp.experts.gate_up_proj'],
      expert_down: ['model.layers.#.mlp.experts.down_proj']
    }
  }
}
