import { type Architecture, LLAMA_BLOCK } from './architecture.ts'
import { DEEPSEEK_IGNORES, DEEPSEEK_NAMES } from './deepseek-v2.ts'

/** DeepSeek-V3: V2's attention, and experts of the best groups by a corrected score. */
export const deepseekV3: Architecture = {
  name: 'deepseek_v3',
  models: 'DeepSeek-V3, V3.1, R1, Moonlight',
  heldTo: 'float64',
  className: 'DeepseekV3ForCausalLM',
  ggufName: 'deepseek2',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  latent: { query: 1536, size: 512, unturned: 128, turned: 64, value: 128 },
  experts: {
    count: { huggingFace: 'n_routed_experts', default: 256 },
    used: { huggingFace: 'num_experts_per_tok', default: 8 },
    size: { huggingFace: 'moe_intermediate_size', default: 2048 },
    normalised: { huggingFace: 'norm_topk_prob', default: true, gguf: false, ggufSays: true },
    router: 'sigmoid',
    corrected: true,
    routerByGguf: true,
    groups: {
      count: { huggingFace: 'n_group', default: 8 },
      used: { huggingFace: 'topk_group', default: 4 },
      score: 'best-two',
      method: { huggingFace: 'topk_method', grouped: 'noaux_tc' }
    },
    scale: { huggingFace: 'routed_scaling_factor', gguf: 'expert_weights_scale', default: 2.5 },
    shared: { count: { huggingFace: 'n_shared_experts', default: 1 } },
    dense: { first: { huggingFace: 'first_k_dense_replace', default: 3 } }
  },
  defaults: {
    heads: 128,
    vocabSize: 129_280,
    contextLength: 4096,
    ropeTheta: 10_000,
    normEpsilon: 1e-6,
    tied: false
  },
  guesses: { huggingFace: 'num_nextn_predict_layers', gguf: 'nextn_predict_layers', joins: 'token-first' },
  only: { scoring_func: 'sigmoid', rope_interleave: true, moe_layer_freq: 1 },
  tokenizerClass: 'PreTrainedTokenizerFast',
  ignores: DEEPSEEK_IGNORES,
  interleaved: { huggingFace: true, gguf: true },
  names: DEEPSEEK_NAMES
}
