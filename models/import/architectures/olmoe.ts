import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** OLMoE: experts, and norms over all heads of q and k together. A clip of q, k and v is refused. */
export const olmoe: Architecture = {
  name: 'olmoe',
  models: 'OLMoE-1B-7B',
  heldTo: 'float64',
  className: 'OlmoeForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'all' } }],
  experts: {
    count: { huggingFace: 'num_experts', default: 64 },
    used: { huggingFace: 'num_experts_per_tok', default: 8 },
    normalised: { huggingFace: 'norm_topk_prob', default: false, gguf: false }
  },
  defaults: { ropeTheta: 10_000, normEpsilon: 1e-5, tied: false },
  tokenizerClass: 'GPT2Tokenizer',
  ignores: OF_OTHER_CLASSES.filter(key => key !== 'clip_qkv'),
  interleaved: { huggingFace: false, gguf: false }
}
