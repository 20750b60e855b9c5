import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** SmolLM3: every fourth layer without positions. */
export const smollm3: Architecture = {
  name: 'smollm3',
  models: 'SmolLM3',
  heldTo: 'llama.cpp',
  className: 'SmolLM3ForCausalLM',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  defaults: { kvHeads: 4, ropeTheta: 2_000_000, normEpsilon: 1e-6, tied: true },
  window: { tokens: null, optional: true },
  unturnedEvery: 4,
  tokenizerClass: 'PreTrainedTokenizerFast',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: true }
}
