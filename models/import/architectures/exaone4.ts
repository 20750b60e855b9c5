import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** EXAONE 4: norms behind both parts and on heads of q and k; of layers with windows and without, only the former turn. */
export const exaone4: Architecture = {
  name: 'exaone4',
  models: 'EXAONE 4.0 (1.2B and 32B)',
  heldTo: 'float64',
  className: 'Exaone4ForCausalLM',
  normKind: 'rms',
  pattern: [
    { ...LLAMA_BLOCK, attention: { ...LLAMA_BLOCK.attention, queryKeyNorm: 'head' }, norms: 'after' }
  ],
  defaults: { kvHeads: 32, ropeTheta: 10_000, normEpsilon: 1e-5, tied: false },
  window: { tokens: 4096, optional: false, fullEvery: 4, fullUnturned: true, ggufSays: true },
  tokenizerClass: 'GPT2Tokenizer',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: false },
  names: { huggingFace: { ffn_post_norm: ['model.layers.#.post_feedforward_layernorm.weight'] } }
}
