import type { Architecture } from './architecture.ts'

/** Mistral 7B and what followed in its form. */
export const mistral: Architecture = {
  name: 'mistral',
  className: 'MistralForCausalLM',
  attentionBias: false,
  queryKeyNorm: false,
  defaults: { kvHeads: 8, ropeTheta: 10_000, normEpsilon: 1e-6, tied: false },
  slidingWindow: () => true,
  ggufInterleaved: true
}
