import { arrangeBlocks } from '../../blocks.ts'
import { UnsupportedModelError } from '../../errors.ts'
import type { ModelShape } from '../../manifest.ts'
import { MAX_DECODER_LAYERS } from '../../manifest-schema.ts'
import type { Architecture } from './architecture.ts'
import { llama } from './llama.ts'
import { mistral } from './mistral.ts'
import { qwen2 } from './qwen2.ts'
import { qwen3 } from './qwen3.ts'

export const ARCHITECTURES: readonly Architecture[] = [llama, mistral, qwen2, qwen3]

/** @throws {UnsupportedModelError} naming what was asked for and what there is. */
export function architectureOf(
  file: string,
  name: unknown,
  architectures: readonly Architecture[] = ARCHITECTURES
): Architecture {
  const found = architectures.find(architecture => architecture.name === name)
  if (found !== undefined) return found
  throw new UnsupportedModelError(
    `${file}: architecture ${JSON.stringify(name ?? null)} is not supported; supported are ` +
      architectures.map(architecture => architecture.name).join(', ')
  )
}

/** The blocks of a model of so many decoder layers. */
export function blocksOf(
  { pattern }: Architecture,
  decoderLayers: number
): Pick<ModelShape, 'blocks' | 'layout'> {
  // More than a manifest may have is refused with the rest of the shape.
  const count = Math.min(Math.max(1, decoderLayers), MAX_DECODER_LAYERS)
  return arrangeBlocks(Array.from({ length: count }, (_, i) => pattern[i % pattern.length]!))
}
