import type { Architecture } from './architecture.ts'
import { mistral } from './mistral.ts'

/** Ministral 3: Mistral with YaRN, and queries that grow with their position. */
export const ministral3: Architecture = {
  ...mistral,
  name: 'ministral3',
  models: 'Ministral 3',
  heldTo: 'llama.cpp',
  className: 'Ministral3ForCausalLM',
  ggufName: 'mistral3',
  defaults: { kvHeads: 8, headSize: 128, ropeTheta: 1_000_000, normEpsilon: 1e-5, tied: false },
  window: { tokens: null, optional: false },
  queryGrowth: { gguf: 'attention.temperature_scale' }
}
