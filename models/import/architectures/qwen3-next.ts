import type { Architecture } from './architecture.ts'
import { qwen35Moe } from './qwen3-5-moe.ts'

const { turnsImages: _images, guesses: _, names, only: __, recurrence, ...common } = qwen35Moe
// Unlike Qwen3.5's, its GGUF files leave value heads in their order.
const { ggufByTurns: ___, ...inOrder } = recurrence!

/** Qwen3-Next: Qwen3.5's layers before it, with rows and experts of its files in another order. */
export const qwen3Next: Architecture = {
  ...common,
  name: 'qwen3_next',
  models: 'Qwen3-Next, Qwen3-Coder-Next',
  heldTo: 'float64',
  className: 'Qwen3NextForCausalLM',
  modelType: 'qwen3_next',
  ggufName: 'qwen3next',
  recurrence: inOrder,
  guesses: { huggingFace: 'num_nextn_predict_layers', gguf: 'nextn_predict_layers', prefix: 'mtp.' },
  experts: {
    count: { huggingFace: 'num_experts', default: 512 },
    used: { huggingFace: 'num_experts_per_tok', default: 10 },
    size: { huggingFace: 'moe_intermediate_size', default: 512 },
    normalised: { huggingFace: 'norm_topk_prob', default: true, gguf: true },
    shared: { size: { huggingFace: 'shared_expert_intermediate_size', default: 512 }, gated: true },
    dense: 'sparse-step'
  },
  names: {
    huggingFace: {
      ...Object.fromEntries(
        Object.entries(names?.huggingFace ?? {}).filter(([name]) => !name.startsWith('expert_'))
      ),
      recurrence_in: ['model.layers.#.linear_attn.in_proj_qkvz.weight'],
      rates: ['model.layers.#.linear_attn.in_proj_ba.weight']
    },
    gguf: { ...names?.gguf, rates: ['blk.#.ssm_ba.weight'] }
  }
}
