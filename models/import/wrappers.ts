import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { isBesideTheMaths } from './config-keys.ts'
import type { Naming } from './naming.ts'

/** A model of text and images, as data: its text part is a model of its own, and all that is read. */
export interface Wrapper {
  /** `model_type` and `architectures[0]` in config.json; the text part's are in `text_config`. */
  modelType: string
  className: string
  /** For people: which models are of it. */
  models: string
  /** `general.architecture` of its text part in GGUF. */
  gguf: string
  /** What its text part is held to. @default 'llama.cpp' */
  heldTo?: 'float64'
  /** Keys of config.json that say nothing of the text part. */
  keys: readonly string[]
}

const IMAGES = ['vision_config', 'image_token_id', 'image_token_index', 'vision_feature_layer']

const QWEN = ['video_token_id', 'vision_start_token_id', 'vision_end_token_id']

export const WRAPPERS: readonly Wrapper[] = [
  {
    modelType: 'mistral3',
    className: 'Mistral3ForConditionalGeneration',
    models: 'Mistral Small 3.1 and 3.2, Devstral, Magistral, Ministral 3',
    gguf: 'llama, mistral3',
    keys: [...IMAGES, 'multimodal_projector_bias', 'projector_hidden_act', 'spatial_merge_size']
  },
  {
    modelType: 'gemma3',
    className: 'Gemma3ForConditionalGeneration',
    models: 'Gemma 3 4B to 27B',
    gguf: 'gemma3',
    keys: [
      ...IMAGES,
      'boi_token_id',
      'boi_token_index',
      'eoi_token_id',
      'eoi_token_index',
      'mm_tokens_per_image'
    ]
  },
  {
    modelType: 'qwen3_vl',
    className: 'Qwen3VLForConditionalGeneration',
    models: 'Qwen3-VL 2B to 32B',
    gguf: 'qwen3vl',
    heldTo: 'float64',
    keys: [...IMAGES, ...QWEN]
  },
  {
    modelType: 'qwen3_vl_moe',
    className: 'Qwen3VLMoeForConditionalGeneration',
    models: 'Qwen3-VL 30B-A3B, 235B-A22B',
    gguf: 'qwen3vlmoe',
    heldTo: 'float64',
    keys: [...IMAGES, ...QWEN]
  },
  {
    modelType: 'qwen3_5',
    className: 'Qwen3_5ForConditionalGeneration',
    models: 'Qwen3.5 and Qwen3.6 dense, as they are published',
    gguf: 'qwen35',
    keys: [...IMAGES, ...QWEN]
  },
  {
    modelType: 'qwen3_5_moe',
    className: 'Qwen3_5MoeForConditionalGeneration',
    models: 'Qwen3.5 and Qwen3.6 with experts, as they are published',
    gguf: 'qwen35moe',
    keys: [...IMAGES, ...QWEN]
  },
  {
    modelType: 'gemma4',
    className: 'Gemma4ForConditionalGeneration',
    models: 'Gemma 4 26B-A4B, 31B, 12B',
    gguf: 'gemma4',
    keys: [
      ...IMAGES,
      'audio_config',
      'audio_token_id',
      'boa_token_id',
      'boi_token_id',
      'eoa_token_id',
      'eoa_token_index',
      'eoi_token_id',
      'video_token_id',
      'vision_soft_tokens_per_image'
    ]
  }
]

/** How files call what is `model.` and `lm_head.` in a model of text alone: transformers 4 and 5. */
const FORMS = [
  { model: 'language_model.model.', head: 'language_model.lm_head.' },
  { model: 'model.language_model.', head: 'lm_head.' }
]
/** Tensors of what sees and hears, and of what hands on what was seen. */
const DROPPED = [
  'vision_tower.',
  'multi_modal_projector.',
  'model.vision_tower.',
  'model.visual.',
  'model.audio_tower.',
  'model.embed_vision.',
  'model.embed_audio.',
  'model.multi_modal_projector.'
]

/** The configuration of the text part, where config.json is that of a wrapper; else what it is. */
export function unwrapConfig(
  json: Record<string, unknown>,
  file: string
): { json: Record<string, unknown>; wrapper: Wrapper | undefined } {
  const wrapper = WRAPPERS.find(({ modelType }) => modelType === json.model_type)
  const { text_config: text, ...outside } = json
  if (wrapper === undefined) return { json, wrapper }
  if (typeof text !== 'object' || text === null || Array.isArray(text)) {
    throw new CheckpointError(file, 'text_config is missing, or no object')
  }
  const { architectures } = outside
  if (Array.isArray(architectures) && architectures.length > 0 && architectures[0] !== wrapper.className) {
    throw new UnsupportedModelError(
      `${file}: ${JSON.stringify(architectures[0]).slice(0, 60)} is not supported (only ${wrapper.className})`
    )
  }
  for (const [key, value] of Object.entries(outside)) {
    if (value === null || wrapper.keys.includes(key) || SHARED.includes(key) || isBesideTheMaths(key, []))
      continue
    throw new UnsupportedModelError(
      `${file}: the key ${JSON.stringify(key.slice(0, 60))} beside text_config is not known for ${wrapper.modelType}`
    )
  }
  // What is said outside of the text part is said for all parts, and of ids that end a reply it is what counts.
  const shared = SHARED.filter(key => outside[key] !== undefined).map(key => [key, outside[key]])
  const { eos_token_id } = outside
  return {
    json: { ...Object.fromEntries(shared), ...text, ...(eos_token_id !== undefined && { eos_token_id }) },
    wrapper
  }
}

/** Keys that hold for the text part where it does not say them itself. */
const SHARED = ['bos_token_id', 'eos_token_id', 'tie_word_embeddings', 'quantization_config', 'quantization']

/** The names of the text part's tensors in a wrapper's files. */
export function wrappedNaming(naming: Naming, names: Iterable<string>): Naming {
  const all = [...names]
  const form = FORMS.find(({ model }) => all.some(name => name.startsWith(model)))
  if (form === undefined) return naming
  const inside = (name: string) => name.replace(/^model\./, form.model).replace(/^lm_head\./, form.head)
  return Object.fromEntries(Object.entries(naming).map(([key, parts]) => [key, parts.map(inside)]))
}

/** Whether a tensor belongs to what a wrapper has beside its text part. */
export function isOfImages(name: string): boolean {
  return DROPPED.some(prefix => name.startsWith(prefix))
}
