import type { Architecture } from './architecture.ts'
import { granite } from './granite.ts'

/** Granite 3's mixtures of experts: Granite's factors, and tensors that have all experts of a layer. */
export const graniteMoe: Architecture = {
  ...granite,
  name: 'granitemoe',
  models: 'Granite 3 1B-A400M, 3B-A800M',
  heldTo: 'float64',
  className: 'GraniteMoeForCausalLM',
  experts: {
    count: { huggingFace: 'num_local_experts', default: 8 },
    used: { huggingFace: 'num_experts_per_tok', default: 2 },
    // The softmax of the highest scores alone.
    normalised: true
  },
  names: {
    huggingFace: {
      router: ['model.layers.#.block_sparse_moe.router.layer.weight'],
      expert_gate_up: ['model.layers.#.block_sparse_moe.input_linear.weight'],
      expert_down: ['model.layers.#.block_sparse_moe.output_linear.weight']
    }
  }
}
