import { OF_OTHER_CLASSES } from '../config-keys.ts'
import type { Naming } from '../naming.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

const HUGGING_FACE: Naming = {
  recurrence_in: ['qkv', 'z'].map(part => `model.layers.#.linear_attn.in_proj_${part}.weight`),
  rates: ['b', 'a'].map(part => `model.layers.#.linear_attn.in_proj_${part}.weight`),
  rate_bias: ['model.layers.#.linear_attn.dt_bias'],
  decay: ['model.layers.#.linear_attn.A_log'],
  convolution: ['model.layers.#.linear_attn.conv1d.weight'],
  recurrence_norm: ['model.layers.#.linear_attn.norm.weight'],
  recurrence_output: ['model.layers.#.linear_attn.out_proj.weight']
}

const GGUF: Naming = {
  recurrence_in: ['qkv', 'gate'].map(part => `blk.#.attn_${part}.weight`),
  rates: ['beta', 'alpha'].map(part => `blk.#.ssm_${part}.weight`),
  rate_bias: ['blk.#.ssm_dt.bias'],
  decay: ['blk.#.ssm_a'],
  convolution: ['blk.#.ssm_conv1d.weight'],
  recurrence_norm: ['blk.#.ssm_norm.weight'],
  recurrence_output: ['blk.#.ssm_out.weight'],
  ffn_norm: ['blk.#.post_attention_norm.weight']
}

/** Qwen3.5 and 3.6, the dense ones: three layers of gated DeltaNet, then one that attends, with a gate behind it. */
export const qwen35: Architecture = {
  name: 'qwen3_5',
  models: 'Qwen3.5 and Qwen3.6 dense',
  heldTo: 'llama.cpp',
  className: 'Qwen3_5ForCausalLM',
  modelType: 'qwen3_5_text',
  ggufName: 'qwen35',
  normKind: 'rms',
  pattern: [
    { ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head', outputGate: true } }
  ],
  recurrence: {
    kind: 'gated-delta',
    layerType: 'linear_attention',
    attentionType: 'full_attention',
    attendsEvery: 'full_attention_interval',
    ggufByTurns: true
  },
  defaults: { headSize: 256, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  partialRotary: 0.25,
  turnsImages: true,
  normsLackOne: true,
  guesses: { huggingFace: 'mtp_num_hidden_layers', gguf: 'nextn_predict_layers', prefix: 'mtp.' },
  only: { attn_output_gate: true, mtp_use_dedicated_embeddings: false },
  tokenizerClass: 'Qwen2Tokenizer',
  ignores: [...OF_OTHER_CLASSES, 'mamba_ssm_dtype', 'mlp_only_layers'],
  interleaved: { huggingFace: false, gguf: false },
  names: { huggingFace: HUGGING_FACE, gguf: GGUF }
}
