import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** LFM2: short convolutions between two gates, and a few layers that attend. */
export const lfm2: Architecture = {
  name: 'lfm2',
  models: 'LFM2, LFM2.5 dense',
  heldTo: 'llama.cpp',
  className: 'Lfm2ForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head' } }],
  recurrence: {
    kind: 'short-convolution',
    layerType: 'conv',
    attentionType: 'full_attention',
    attendsList: 'full_attn_idxs'
  },
  defaults: { kvHeads: 8, ropeTheta: 1_000_000, normEpsilon: 1e-5, tied: true },
  keys: { normEpsilon: 'norm_eps' },
  adjustsFfnSize: true,
  only: { conv_bias: false },
  tokenizerClass: 'PreTrainedTokenizerFast',
  // Its class has each of these by another name as well.
  ignores: [
    ...OF_OTHER_CLASSES,
    'block_dim',
    'block_mlp_init_scale',
    'block_norm_eps',
    'block_out_init_scale',
    'block_use_swiglu',
    'block_use_xavier_init',
    'conv_dim',
    'conv_dim_out',
    'conv_use_xavier_init',
    'eos_token_id',
    'num_heads',
    'tie_embedding',
    'use_pos_enc'
  ],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      attention_norm: ['model.layers.#.operator_norm.weight'],
      ffn_norm: ['model.layers.#.ffn_norm.weight'],
      attention_output: ['model.layers.#.self_attn.out_proj.weight'],
      q_norm: ['model.layers.#.self_attn.q_layernorm.weight'],
      k_norm: ['model.layers.#.self_attn.k_layernorm.weight'],
      recurrence_in: ['model.layers.#.conv.in_proj.weight'],
      convolution: ['model.layers.#.conv.conv.weight'],
      recurrence_output: ['model.layers.#.conv.out_proj.weight'],
      gate_up: ['1', '3'].map(n => `model.layers.#.feed_forward.w${n}.weight`),
      ffn_down: ['model.layers.#.feed_forward.w2.weight'],
      norm: ['model.embedding_norm.weight']
    },
    gguf: {
      recurrence_in: ['blk.#.shortconv.in_proj.weight'],
      convolution: ['blk.#.shortconv.conv.weight'],
      recurrence_output: ['blk.#.shortconv.out_proj.weight'],
      norm: ['token_embd_norm.weight']
    }
  }
}
