import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Qwen3, the dense ones: no biases, but a norm on every head of q and k. */
export const qwen3: Architecture = {
  name: 'qwen3',
  className: 'Qwen3ForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head' } }],
  defaults: { kvHeads: 32, headSize: 128, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  slidingWindow: config => config.use_sliding_window === true,
  ggufInterleaved: false
}
