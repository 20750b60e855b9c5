import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/**
 * Gemma 4, its text part: layers without a window have larger heads whose keys are their values, too, and turn a quarter of
 * their pairs; perhaps experts beside the dense unit. Per-layer embeddings (E2B, E4B) would need token ids on every device.
 */
export const gemma4: Architecture = {
  name: 'gemma4',
  models: 'Gemma 4 26B-A4B, 31B, 12B (text)',
  heldTo: 'llama.cpp',
  className: 'Gemma4ForCausalLM',
  modelType: 'gemma4_text',
  normKind: 'rms',
  pattern: [
    {
      attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head', valueNorm: true, scale: 1 },
      feedForward: { kind: 'gated', activation: 'gelu-tanh' },
      norms: 'around',
      outputScale: true
    }
  ],
  experts: {
    enabled: { huggingFace: 'enable_moe_block' },
    count: { huggingFace: 'num_experts', default: 128 },
    used: { huggingFace: 'top_k_experts', default: 8 },
    size: { huggingFace: 'moe_intermediate_size', default: 704 },
    normalised: true,
    beside: true
  },
  defaults: {
    heads: 8,
    kvHeads: 4,
    headSize: 256,
    vocabSize: 262_144,
    contextLength: 131_072,
    ropeTheta: 1_000_000,
    normEpsilon: 1e-6,
    tied: true
  },
  window: {
    tokens: 512,
    optional: false,
    fullEvery: 6,
    lastFull: true,
    rope: { huggingFace: 'rope_local_base_freq', gguf: 'rope.freq_base_swa', theta: 10_000 },
    heads: {
      headSize: { huggingFace: 'global_head_dim', default: 512 },
      kvHeads: { huggingFace: 'num_global_key_value_heads' },
      shared: { huggingFace: 'attention_k_eq_v' }
    }
  },
  proportionalRotary: 0.25,
  scales: { embedding: 'sqrt(hidden)', router: '1/sqrt(hidden)' },
  softcaps: {
    logits: { huggingFace: 'final_logit_softcapping', gguf: 'final_logit_softcapping' }
  },
  absent: [
    {
      huggingFace: 'hidden_size_per_layer_input',
      gguf: 'embedding_length_per_layer_input',
      default: 256,
      what: 'per-layer embeddings (Gemma 4 E2B and E4B)'
    },
    {
      huggingFace: 'num_kv_shared_layers',
      gguf: 'attention.shared_kv_layers',
      default: 0,
      what: 'keys and values that several layers share (Gemma 4 E2B and E4B)'
    }
  ],
  only: { use_bidirectional_attention: 'vision' },
  tokenizerClass: 'GemmaTokenizer',
  activationKeys: ['hidden_activation'],
  // Both are of per-layer embeddings and shared keys.
  ignores: [...OF_OTHER_CLASSES, 'vocab_size_per_layer_input', 'use_double_wide_mlp'],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      ffn_norm: ['model.layers.#.pre_feedforward_layernorm.weight'],
      dense_post_norm: ['model.layers.#.post_feedforward_layernorm_1.weight'],
      experts_norm: ['model.layers.#.pre_feedforward_layernorm_2.weight'],
      experts_post_norm: ['model.layers.#.post_feedforward_layernorm_2.weight'],
      router: ['model.layers.#.router.proj.weight'],
      router_norm: ['model.layers.#.router.scale'],
      router_scale: ['model.layers.#.router.per_expert_scale'],
      expert_gate_up: ['model.layers.#.experts.gate_up_proj'],
      expert_down: ['model.layers.#.experts.down_proj'],
      output_scale: ['model.layers.#.layer_scalar']
    },
    gguf: {
      dense_post_norm: ['blk.#.post_ffw_norm_1.weight'],
      experts_norm: ['blk.#.pre_ffw_norm_2.weight'],
      experts_post_norm: ['blk.#.post_ffw_norm_2.weight'],
      router_norm: ['blk.#.ffn_gate_inp.scale'],
      router_scale: ['blk.#.ffn_down_exps.scale'],
      expert_gate_up: ['blk.#.ffn_gate_up_exps.weight'],
      output_scale: ['blk.#.layer_output_scale.weight']
    }
  }
}
