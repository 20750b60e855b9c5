import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'
import { MAMBA2_GGUF_NAMES } from './mamba2.ts'

/** Nemotron-H: layers of one part each, of Mamba 2, of attention that turns nothing, or of units without a gate, dense or experts. */
export const nemotronH: Architecture = {
  name: 'nemotron_h',
  models: 'Nemotron-H, Nemotron Nano 2, Nemotron 3 Nano',
  heldTo: 'float64',
  className: 'NemotronHForCausalLM',
  ggufExpertsName: 'nemotron_h_moe',
  normKind: 'rms',
  pattern: [
    {
      attention: { ...LLAMA_BLOCK.attention, rotary: 'none' },
      feedForward: { kind: 'gated', activation: 'relu2', ungated: true },
      norms: 'before'
    }
  ],
  parts: { pattern: 'hybrid_override_pattern', types: 'layers_block_type' },
  recurrence: {
    kind: 'state-space',
    layerType: 'linear_attention',
    attentionType: 'full_attention',
    bias: 'use_conv_bias',
    groupNorm: true,
    keys: {
      taps: 'conv_kernel',
      heads: 'mamba_num_heads',
      headSize: 'mamba_head_dim',
      groups: 'n_groups',
      stateSize: 'ssm_state_size'
    }
  },
  experts: {
    enabled: 'count',
    count: { huggingFace: 'n_routed_experts', default: 8 },
    used: { huggingFace: 'num_experts_per_tok', default: 2 },
    size: { huggingFace: 'moe_intermediate_size', default: 7688 },
    normalised: { huggingFace: 'norm_topk_prob', default: true, gguf: true, ggufSays: true },
    router: 'sigmoid',
    corrected: true,
    scale: { huggingFace: 'routed_scaling_factor', gguf: 'expert_weights_scale', default: 1 },
    shared: { size: { huggingFace: 'moe_shared_expert_intermediate_size', default: 7688 } }
  },
  defaults: {
    ...{ heads: 32, kvHeads: 8, headSize: 128, vocabSize: 131_072, contextLength: 4096 },
    ...{ ropeTheta: 10_000, normEpsilon: 1e-5, tied: false }
  },
  keys: { normEpsilon: 'layer_norm_epsilon', headSize: 'attention_head_dim' },
  guesses: { huggingFace: 'num_nextn_predict_layers', gguf: 'nextn_predict_layers', prefix: 'mtp.' },
  absent: [
    {
      huggingFace: 'moe_latent_size',
      gguf: 'moe_latent_size',
      default: 0,
      what: 'experts of a latent vector (Nemotron 3 Super and Ultra)'
    }
  ],
  only: {
    mamba_hidden_act: 'silu',
    mamba_proj_bias: false,
    n_group: 1,
    n_shared_experts: 1,
    // It bounds how long a token lets the state forget.
    time_step_limit: [0, Number.POSITIVE_INFINITY],
    topk_group: 1,
    use_bias: false
  },
  ggufOnly: { expert_shared_count: 1 },
  tokenizerClass: 'PreTrainedTokenizerFast',
  activationKeys: ['mlp_hidden_act'],
  // How it was trained, the pieces in which transformers computes, what is kept in how many bits, and the positions that none has.
  ignores: [
    ...OF_OTHER_CLASSES,
    ...['chunk_size', 'expand', 'mamba_ssm_cache_dtype', 'moe_shared_expert_overlap', 'norm_eps'],
    ...['mtp_hybrid_override_pattern', 'mtp_layers_block_type', 'partial_rotary_factor'],
    ...['rescale_prenorm_residual', 'residual_in_fp32', 'rope_theta', 'time_step_floor'],
    ...['time_step_max', 'time_step_min', 'time_step_rank', 'use_mamba_kernels']
  ],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      embedding: ['backbone.embeddings.weight'],
      attention_norm: ['backbone.layers.#.norm.weight'],
      ffn_norm: ['backbone.layers.#.norm.weight'],
      qkv: ['q', 'k', 'v'].map(part => `backbone.layers.#.mixer.${part}_proj.weight`),
      attention_output: ['backbone.layers.#.mixer.o_proj.weight'],
      recurrence_in: ['backbone.layers.#.mixer.in_proj.weight'],
      rates: ['backbone.layers.#.mixer.in_proj.weight'],
      rate_bias: ['backbone.layers.#.mixer.dt_bias'],
      decay: ['backbone.layers.#.mixer.A_log'],
      convolution: ['backbone.layers.#.mixer.conv1d.weight'],
      convolution_bias: ['backbone.layers.#.mixer.conv1d.bias'],
      skip: ['backbone.layers.#.mixer.D'],
      recurrence_norm: ['backbone.layers.#.mixer.norm.weight'],
      recurrence_output: ['backbone.layers.#.mixer.out_proj.weight'],
      up: ['backbone.layers.#.mixer.up_proj.weight'],
      ffn_down: ['backbone.layers.#.mixer.down_proj.weight'],
      router: ['backbone.layers.#.mixer.gate.weight'],
      router_correction: ['backbone.layers.#.mixer.gate.e_score_correction_bias'],
      expert_up: ['backbone.layers.#.mixer.experts.@.up_proj.weight'],
      expert_down: ['backbone.layers.#.mixer.experts.@.down_proj.weight'],
      shared_up: ['backbone.layers.#.mixer.shared_experts.up_proj.weight'],
      shared_down: ['backbone.layers.#.mixer.shared_experts.down_proj.weight'],
      norm: ['backbone.norm_f.weight']
    },
    gguf: {
      ffn_norm: ['blk.#.attn_norm.weight'],
      ...MAMBA2_GGUF_NAMES
    }
  }
}
