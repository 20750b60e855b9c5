import { type Architecture, LLAMA_BLOCK } from './architecture.ts'
import { glm4 } from './glm4.ts'

/** GLM-4 of 2024: as that of 0414, with norms before both parts only. */
export const glm: Architecture = {
  ...glm4,
  name: 'glm',
  models: 'GLM-4-9B-Chat (the -hf form)',
  className: 'GlmForCausalLM',
  ggufName: null,
  pattern: [LLAMA_BLOCK]
}
