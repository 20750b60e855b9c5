import type { Architecture } from './architecture.ts'
import { qwen3 } from './qwen3.ts'

const { window: _, ...dense } = qwen3

/** The text part of Qwen3-VL: Qwen3's layer. What images add behind the first layers, texts have not. */
export const qwen3Vl: Architecture = {
  ...dense,
  name: 'qwen3_vl',
  models: 'the text part of Qwen3-VL',
  heldTo: 'float64',
  className: 'Qwen3VLTextModel',
  modelType: 'qwen3_vl_text',
  ggufName: 'qwen3vl',
  defaults: { ...dense.defaults, contextLength: 128_000, ropeTheta: 500_000 },
  turnsImages: true,
  ggufIgnores: ['n_deepstack_layers']
}
