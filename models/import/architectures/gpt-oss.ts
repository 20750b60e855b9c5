import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** gpt-oss: experts, sinks, biases everywhere, and a window on every other layer. */
export const gptOss: Architecture = {
  name: 'gpt_oss',
  models: 'gpt-oss 20B and 120B',
  heldTo: 'llama.cpp',
  className: 'GptOssForCausalLM',
  ggufName: 'gpt-oss',
  normKind: 'rms',
  pattern: [
    {
      ...LLAMA_BLOCK,
      attention: { ...LLAMA_BLOCK.attention, bias: 'all', sinks: true },
      feedForward: { kind: 'gated', activation: 'quick-gelu', limit: 7, upPlusOne: true }
    }
  ],
  experts: {
    count: { huggingFace: 'num_local_experts', default: 128 },
    used: { huggingFace: 'num_experts_per_tok', default: 4, also: 'experts_per_token' },
    size: { huggingFace: 'intermediate_size', default: 2880 },
    // The softmax of the highest scores alone.
    normalised: true,
    bias: true,
    stacks: { byTurns: true, transposed: true }
  },
  defaults: {
    heads: 64,
    kvHeads: 8,
    headSize: 64,
    vocabSize: 201_088,
    contextLength: 131_072,
    ropeTheta: 150_000,
    normEpsilon: 1e-5,
    tied: false
  },
  window: { tokens: 128, optional: false, fullEvery: 2 },
  scalingNeeded: true,
  ggufUnrounded: true,
  // Its class computes with this limit whatever the file says, as other programs do.
  only: { attention_bias: true, swiglu_limit: 7 },
  activationName: 'silu',
  tokenizerClass: 'PreTrainedTokenizerFast',
  ignores: [...OF_OTHER_CLASSES, 'initial_context_length'],
  interleaved: { huggingFace: false, gguf: false },
  names: {
    huggingFace: {
      router: ['model.layers.#.mlp.router.weight'],
      router_bias: ['model.layers.#.mlp.router.bias'],
      expert_gate_up: ['model.layers.#.mlp.experts.gate_up_proj'],
      expert_gate_up_bias: ['model.layers.#.mlp.experts.gate_up_proj_bias'],
      expert_down: ['model.layers.#.mlp.experts.down_proj'],
      expert_down_bias: ['model.layers.#.mlp.experts.down_proj_bias']
    },
    gguf: { ffn_norm: ['blk.#.post_attention_norm.weight'] }
  }
}
