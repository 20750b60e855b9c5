import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Mixtral: Mistral's layer with experts, which are called w1, w3 and w2. */
export const mixtral: Architecture = {
  name: 'mixtral',
  models: 'Mixtral 8x7B, 8x22B',
  heldTo: 'llama.cpp',
  className: 'MixtralForCausalLM',
  ggufName: 'llama',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  experts: {
    count: { huggingFace: 'num_local_experts', default: 8 },
    used: { huggingFace: 'num_experts_per_tok', default: 2 },
    normalised: true
  },
  defaults: { kvHeads: 8, ropeTheta: 1_000_000, normEpsilon: 1e-5, tied: false },
  window: { tokens: null, optional: false },
  tokenizerClass: 'LlamaTokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: true },
  names: {
    huggingFace: {
      router: ['model.layers.#.block_sparse_moe.gate.weight'],
      expert_gate_up: ['w1', 'w3'].map(p => `model.layers.#.block_sparse_moe.experts.@.${p}.weight`),
      expert_down: ['model.layers.#.block_sparse_moe.experts.@.w2.weight']
    }
  }
}
