import { FLOAT_BYTES } from '../formats/floats.ts'
import { GGUF_TYPES } from '../formats/gguf-types.ts'
import { ARCHITECTURES, FORMAT_NAMES } from './architectures/index.ts'
import { QUANTIZATIONS } from './quantization/config.ts'
import { WRAPPERS } from './wrappers.ts'

/** A family of models that can be imported. */
export interface SupportedFamily {
  models: string
  /** Its class in config.json, and `general.architecture` in GGUF; null where GGUF files of it are not read. */
  huggingFace: string
  gguf: string | null
  /** What its numbers are held to. */
  heldTo: 'llama.cpp' | 'float64'
  /** Texts only, of a model that takes images too. */
  textOnly: boolean
}

/** What can be imported, as the code has it. */
export interface Supported {
  families: SupportedFamily[]
  /** Types of tensors in safetensors, and in GGUF. */
  safetensors: string[]
  /** How weights of safetensors may be quantised. */
  quantized: string[]
  gguf: string[]
}

export function supported(): Supported {
  const families = ARCHITECTURES.map(architecture => ({
    models: architecture.models,
    huggingFace: architecture.className,
    gguf: FORMAT_NAMES.GGUF(architecture).join(', ') || null,
    heldTo: architecture.heldTo,
    textOnly: false
  }))
  const wrapped = WRAPPERS.map(({ models, className, gguf, heldTo }) => ({
    models,
    huggingFace: className,
    gguf,
    heldTo: heldTo ?? ('llama.cpp' as const),
    textOnly: true
  }))
  return {
    families: [...families, ...wrapped],
    safetensors: Object.keys(FLOAT_BYTES),
    quantized: [...QUANTIZATIONS],
    gguf: Object.values(GGUF_TYPES).map(({ name }) => name)
  }
}
