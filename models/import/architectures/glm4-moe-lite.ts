import type { Architecture } from './architecture.ts'
import { deepseekV3 } from './deepseek-v3.ts'

/** GLM-4.7-Flash: DeepSeek-V3's layers in other sizes, all of its experts in one group. */
export const glm4MoeLite: Architecture = {
  ...deepseekV3,
  name: 'glm4_moe_lite',
  models: 'GLM-4.7-Flash',
  className: 'Glm4MoeLiteForCausalLM',
  latent: { query: 768, size: 512, unturned: 192, turned: 64, value: 256 },
  experts: {
    ...deepseekV3.experts!,
    count: { huggingFace: 'n_routed_experts', default: 64 },
    used: { huggingFace: 'num_experts_per_tok', default: 4 },
    size: { huggingFace: 'moe_intermediate_size', default: 1536 },
    groups: {
      ...deepseekV3.experts!.groups!,
      count: { huggingFace: 'n_group', default: 1 },
      used: { huggingFace: 'topk_group', default: 1 }
    },
    scale: { huggingFace: 'routed_scaling_factor', gguf: 'expert_weights_scale', default: 1.8 },
    dense: { first: { huggingFace: 'first_k_dense_replace', default: 1 }, types: 'mlp_layer_types' }
  },
  defaults: {
    heads: 20,
    vocabSize: 154_880,
    contextLength: 202_752,
    ropeTheta: 10_000,
    normEpsilon: 1e-5,
    tied: false
  }
}
