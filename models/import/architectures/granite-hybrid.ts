import { type Architecture, LLAMA_BLOCK } from './architecture.ts'
import { granite } from './granite.ts'
import { MAMBA2_GGUF_NAMES } from './mamba2.ts'

/** Granite 4 with Mamba 2, dense or with experts beside one that computes every token: its few layers that attend turn nothing. */
export const graniteHybrid: Architecture = {
  ...granite,
  name: 'granitemoehybrid',
  models: 'Granite 4.0-H dense (Micro, 350M, 1B); with experts (Tiny, Small), held to float64',
  className: 'GraniteMoeHybridForCausalLM',
  ggufName: 'granitehybrid',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, rotary: 'none' } }],
  recurrence: {
    kind: 'state-space',
    layerType: 'mamba',
    attentionType: 'attention',
    bias: 'mamba_conv_bias'
  },
  keys: { ffnSize: 'shared_intermediate_size' },
  experts: {
    enabled: 'count',
    count: { huggingFace: 'num_local_experts', default: 8 },
    used: { huggingFace: 'num_experts_per_tok', default: 2 },
    size: { huggingFace: 'intermediate_size', default: 11_008, gguf: 'feed_forward_length' },
    // The softmax of the highest scores alone.
    normalised: true,
    shared: { size: { huggingFace: 'shared_intermediate_size', default: 1024 } }
  },
  only: {
    mamba_proj_bias: false,
    normalization_function: 'rmsnorm',
    position_embedding_type: 'nope'
  },
  // What it was trained with, and how long the pieces are in which transformers computes.
  ignores: [
    'init_method',
    'mamba_chunk_size',
    'mamba_expand',
    'rope_interleaved',
    'time_step_floor',
    'time_step_max',
    'time_step_min'
  ],
  names: {
    huggingFace: {
      recurrence_in: ['model.layers.#.mamba.in_proj.weight'],
      rates: ['model.layers.#.mamba.in_proj.weight'],
      rate_bias: ['model.layers.#.mamba.dt_bias'],
      decay: ['model.layers.#.mamba.A_log'],
      convolution: ['model.layers.#.mamba.conv1d.weight'],
      convolution_bias: ['model.layers.#.mamba.conv1d.bias'],
      skip: ['model.layers.#.mamba.D'],
      recurrence_norm: ['model.layers.#.mamba.norm.weight'],
      recurrence_output: ['model.layers.#.mamba.out_proj.weight'],
      gate_up: ['model.layers.#.shared_mlp.input_linear.weight'],
      ffn_down: ['model.layers.#.shared_mlp.output_linear.weight'],
      router: ['model.layers.#.block_sparse_moe.router.layer.weight'],
      expert_gate_up: ['model.layers.#.block_sparse_moe.input_linear.weight'],
      expert_down: ['model.layers.#.block_sparse_moe.output_linear.weight'],
      shared_gate_up: ['model.layers.#.shared_mlp.input_linear.weight'],
      shared_down: ['model.layers.#.shared_mlp.output_linear.weight']
    },
    gguf: MAMBA2_GGUF_NAMES
  }
}
