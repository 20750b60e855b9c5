import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** ERNIE 4.5, the dense one: Llama's layer, with rows in interleaved rotary order. */
export const ernie45: Architecture = {
  name: 'ernie4_5',
  models: 'ERNIE 4.5 0.3B',
  heldTo: 'float64',
  className: 'Ernie4_5ForCausalLM',
  normKind: 'rms',
  pattern: [LLAMA_BLOCK],
  defaults: { kvHeads: 2, headSize: 128, ropeTheta: 500_000, normEpsilon: 1e-5, tied: true },
  only: { use_bias: false },
  tokenizerClass: 'LlamaTokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: true, gguf: true }
}
