import type { Architecture } from './architecture.ts'
import { qwen35 } from './qwen3-5.ts'

const { names } = qwen35

/** Qwen3.5's and 3.6's mixtures of experts: all in one tensor, and one more that computes every token, times a gate. */
export const qwen35Moe: Architecture = {
  ...qwen35,
  name: 'qwen3_5_moe',
  models: 'Qwen3.5 and Qwen3.6 with experts (35B-A3B, 122B-A10B, 397B-A17B)',
  className: 'Qwen3_5MoeForCausalLM',
  modelType: 'qwen3_5_moe_text',
  ggufName: 'qwen35moe',
  experts: {
    count: { huggingFace: 'num_experts', default: 256 },
    used: { huggingFace: 'num_experts_per_tok', default: 8 },
    size: { huggingFace: 'moe_intermediate_size', default: 512 },
    normalised: true,
    shared: { size: { huggingFace: 'shared_expert_intermediate_size', default: 512 }, gated: true },
    dense: 'sparse-step'
  },
  names: {
    ...names,
    huggingFace: {
      ...names?.huggingFace,
      expert_gate_up: ['model.layers.#.mlp.experts.gate_up_proj'],
      expert_down: ['model.layers.#.mlp.experts.down_proj']
    }
  }
}
