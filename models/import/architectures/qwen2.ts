import type { Architecture } from './architecture.ts'

/** Qwen2 and Qwen2.5: biases on q, k and v. */
export const qwen2: Architecture = {
  name: 'qwen2',
  className: 'Qwen2ForCausalLM',
  attentionBias: true,
  queryKeyNorm: false,
  defaults: { kvHeads: 32, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  slidingWindow: config => config.use_sliding_window === true,
  ggufInterleaved: false
}
