import { UnsupportedModelError } from '../../errors.ts'
import type { Architecture } from './architecture.ts'
import { llama } from './llama.ts'
import { mistral } from './mistral.ts'
import { qwen2 } from './qwen2.ts'
import { qwen3 } from './qwen3.ts'

export const ARCHITECTURES: readonly Architecture[] = [llama, mistral, qwen2, qwen3]

/** @throws {UnsupportedModelError} naming what was asked for and what there is. */
export function architectureOf(file: string, name: unknown): Architecture {
  const found = ARCHITECTURES.find(architecture => architecture.name === name)
  if (found !== undefined) return found
  throw new UnsupportedModelError(
    `${file}: architecture ${JSON.stringify(name ?? null)} is not supported; supported are ` +
      ARCHITECTURES.map(architecture => architecture.name).join(', ')
  )
}
