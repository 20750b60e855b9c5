import { OF_OTHER_CLASSES } from '../config-keys.ts'
import { type Architecture, LLAMA_BLOCK } from './architecture.ts'

/** Arcee's: Llama's layer with a unit that has no gate. */
export const arcee: Architecture = {
  name: 'arcee',
  models: 'AFM-4.5B',
  heldTo: 'float64',
  className: 'ArceeForCausalLM',
  normKind: 'rms',
  pattern: [{ ...LLAMA_BLOCK, feedForward: { kind: 'gated', activation: 'relu2', ungated: true } }],
  defaults: { contextLength: 4096, vocabSize: 32_000, ropeTheta: 10_000, normEpsilon: 1e-5, tied: false },
  tokenizerClass: 'PreTrainedTokenizerFast',
  ignores: OF_OTHER_CLASSES,
  interleaved: { huggingFace: false, gguf: true }
}
