import type { Architecture } from './architecture.ts'
import { olmo2 } from './olmo2.ts'

/** OLMo 3: OLMo 2 with windows on three of four layers, whose turning is not stretched. */
export const olmo3: Architecture = {
  ...olmo2,
  name: 'olmo3',
  models: 'OLMo 3',
  heldTo: 'float64',
  className: 'Olmo3ForCausalLM',
  ggufName: 'olmo2',
  window: { tokens: 4096, optional: false, fullEvery: 4, rope: 'unscaled', ggufSays: true }
}
