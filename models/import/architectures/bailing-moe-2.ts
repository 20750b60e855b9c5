import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'
import { DEEPSEEK_NAMES } from './deepseek-v2.ts'

/** Ling and Ring 2.0: a norm on every head, half of each turned, and DeepSeek-V3's experts. Older ones have another class of that type. */
export const bailingMoe2: Architecture = {
  name: 'bailing_moe_v2',
  models: 'Ling 2.0 and Ring 2.0 (mini 16B-A1.4B, flash 100B-A6B)',
  heldTo: 'float64',
  className: 'BailingMoeV2ForCausalLM',
  modelType: 'bailing_moe',
  ggufName: 'bailingmoe2',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head' } }],
  experts: {
    count: { huggingFace: 'num_experts', default: 256 },
    used: { huggingFace: 'num_experts_per_tok', default: 8 },
    size: { huggingFace: 'moe_intermediate_size', default: 512 },
    normalised: { huggingFace: 'norm_topk_prob', default: true, gguf: false, ggufSays: true },
    router: 'sigmoid',
    corrected: true,
    groups: {
      count: { huggingFace: 'n_group', default: 8 },
      used: { huggingFace: 'topk_group', default: 4 },
      score: 'best-two',
      method: { huggingFace: 'score_function', grouped: 'sigmoid' }
    },
    scale: { huggingFace: 'routed_scaling_factor', gguf: 'expert_weights_scale', default: 2.5 },
    shared: { count: { huggingFace: 'num_shared_experts', default: 1 } },
    dense: { first: { huggingFace: 'first_k_dense_replace', default: 1 } }
  },
  defaults: {
    ...{ heads: 16, kvHeads: 4, headSize: 128, vocabSize: 157_184, contextLength: 32_768 },
    ...{ ropeTheta: 600_000, normEpsilon: 1e-6, tied: false }
  },
  partialRotary: 0.5,
  guesses: { huggingFace: 'num_nextn_predict_layers', gguf: 'nextn_predict_layers' },
  only: {
    ...{ moe_router_enable_expert_bias: true, router_type: 'topN', use_bias: false, use_qk_norm: true },
    ...{ use_qkv_bias: false, use_rmsnorm: true }
  },
  ggufIgnores: ['expert_shared_feed_forward_length'],
  tokenizerClass: 'PreTrainedTokenizerFast',
  // Its shared expert is as large as so many others; the rest is of training, and of other programs.
  ignores: [
    ...OF_OTHER_CLASSES,
    ...['embedding_dropout', 'moe_shared_expert_intermediate_size', 'mtp_loss_scaling_factor'],
    ...['max_window_layers', 'output_dropout', 'router_dtype', 'rotary_dim']
  ],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      ...DEEPSEEK_NAMES.huggingFace,
      embedding: ['model.word_embeddings.weight'],
      qkv: ['model.layers.#.attention.query_key_value.weight'],
      q_norm: ['model.layers.#.attention.query_layernorm.weight'],
      k_norm: ['model.layers.#.attention.key_layernorm.weight'],
      attention_output: ['model.layers.#.attention.dense.weight'],
      router_correction: ['model.layers.#.mlp.gate.expert_bias']
    },
    gguf: { qkv: ['blk.#.attn_qkv.weight'] }
  }
}
