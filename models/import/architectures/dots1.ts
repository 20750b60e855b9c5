import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'
import { DEEPSEEK_NAMES } from './deepseek-v2.ts'

/** dots.llm1: attention with a norm on every head, and DeepSeek-V3's experts in one group. */
export const dots1: Architecture = {
  name: 'dots1',
  models: 'dots.llm1 142B-A14B',
  heldTo: 'float64',
  className: 'Dots1ForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head' } }],
  experts: {
    count: { huggingFace: 'n_routed_experts', default: 128 },
    used: { huggingFace: 'num_experts_per_tok', default: 6 },
    size: { huggingFace: 'moe_intermediate_size', default: 1408 },
    normalised: { huggingFace: 'norm_topk_prob', default: false, gguf: false, ggufSays: true },
    router: 'sigmoid',
    corrected: true,
    scale: { huggingFace: 'routed_scaling_factor', gguf: 'expert_weights_scale', default: 1 },
    shared: { count: { huggingFace: 'n_shared_experts', default: 2 } },
    dense: { first: { huggingFace: 'first_k_dense_replace', default: 0 } }
  },
  defaults: { kvHeads: 32, contextLength: 2048, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  window: { tokens: 4096, optional: false, firstLayer: 62, ggufSays: true },
  only: { scoring_func: 'noaux_tc', n_group: 1, topk_group: 1 },
  tokenizerClass: 'Qwen2Tokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: false },
  names: DEEPSEEK_NAMES
}
