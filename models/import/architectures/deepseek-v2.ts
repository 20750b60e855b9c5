import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Tensors of DeepSeek's feed-forward parts, as its later models have them, too. */
export const DEEPSEEK_NAMES: NonNullable<Architecture['names']> = {
  huggingFace: {
    shared_gate_up: ['gate', 'up'].map(p => `model.layers.#.mlp.shared_experts.${p}_proj.weight`),
    shared_down: ['model.layers.#.mlp.shared_experts.down_proj.weight']
  }
}

/** Keys of its training. */
export const DEEPSEEK_IGNORES = [...OF_OTHER_CLASSES, 'aux_loss_alpha', 'seq_aux', 'ep_size']

/**
 * DeepSeek-V2: keys and values of a latent vector, experts in groups. All GGUF files of `deepseek2` are read by this: they say
 * themselves which router they have.
 */
export const deepseekV2: Architecture = {
  name: 'deepseek_v2',
  models: 'DeepSeek-V2, V2-Lite, Coder-V2',
  heldTo: 'llama.cpp',
  className: 'DeepseekV2ForCausalLM',
  ggufName: 'deepseek2',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  latent: { query: 1536, size: 512, unturned: 128, turned: 64, value: 128 },
  experts: {
    count: { huggingFace: 'n_routed_experts', default: 64 },
    used: { huggingFace: 'num_experts_per_tok', default: 6 },
    size: { huggingFace: 'moe_intermediate_size', default: 1407 },
    normalised: { huggingFace: 'norm_topk_prob', default: false, gguf: false, ggufSays: true },
    routerByGguf: true,
    groups: {
      count: { huggingFace: 'n_group', default: 1 },
      used: { huggingFace: 'topk_group', default: 1 },
      score: 'highest',
      method: { huggingFace: 'topk_method', plain: 'greedy', grouped: 'group_limited_greedy' }
    },
    scale: { huggingFace: 'routed_scaling_factor', gguf: 'expert_weights_scale', default: 1 },
    shared: { count: { huggingFace: 'n_shared_experts', default: 2 } },
    dense: { first: { huggingFace: 'first_k_dense_replace', default: 0 } }
  },
  defaults: {
    heads: 32,
    vocabSize: 32_000,
    contextLength: 2048,
    ropeTheta: 10_000,
    normEpsilon: 1e-6,
    tied: false
  },
  // GGUF files of V3 are called by its name.
  guesses: { huggingFace: 'num_nextn_predict_layers', gguf: 'nextn_predict_layers', joins: 'token-first' },
  // Weights that are divided by their sum are scaled by some programs, and by others not.
  only: { scoring_func: 'softmax', norm_topk_prob: false, moe_layer_freq: 1 },
  tokenizerClass: 'PreTrainedTokenizerFast',
  ignores: DEEPSEEK_IGNORES,
  interleaved: { huggingFace: true, gguf: true },
  names: DEEPSEEK_NAMES
}
