import { z } from 'zod'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { type Block, checkShape, type ModelShape, type RopeSpec } from '../manifest.ts'
import type { Architecture } from './architectures/architecture.ts'
import { architectureOf, blocksOf } from './architectures/index.ts'

/** What config.json says of a checkpoint, checked. */
export interface CheckpointConfig {
  architecture: Architecture
  shape: ModelShape
  /** The output projection is the embedding table. */
  tied: boolean
  bosTokenId: number | undefined
  eosTokenIds: number[] | undefined
}

const count = z
  .int()
  .min(1)
  .max(2 ** 40)
const factor = z
  .number()
  .positive()
  .lt(2 ** 40)
const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31)

/** Either name of the kind of scaling; older files say `type`. */
const Rope = z.looseObject({
  rope_type: z.string().nullish(),
  type: z.string().nullish(),
  rope_theta: factor.nullish(),
  factor: factor.nullish(),
  low_freq_factor: factor.nullish(),
  high_freq_factor: factor.nullish(),
  original_max_position_embeddings: count.nullish()
})

const Config = z.looseObject({
  model_type: z.string().nullish(),
  architectures: z.array(z.string()).nullish(),
  hidden_size: count,
  intermediate_size: count,
  num_hidden_layers: count,
  num_attention_heads: count,
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  vocab_size: count,
  max_position_embeddings: count,
  rms_norm_eps: z.number().positive().lt(1).nullish(),
  rope_theta: factor.nullish(),
  rope_scaling: Rope.nullish(),
  /** Transformers 5 has theta and scaling here. */
  rope_parameters: Rope.nullish(),
  partial_rotary_factor: z.number().nullish(),
  hidden_act: z.string().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  sliding_window: count.nullish(),
  use_sliding_window: z.boolean().nullish(),
  quantization_config: z.unknown().optional(),
  bos_token_id: tokenId.nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId).max(64)]).nullish()
})

/** transformers' names (ACT2FN); absent means the architecture's own. */
const ACTIVATIONS: Partial<Record<string, Block['feedForward']['activation']>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_pytorch_tanh: 'gelu-tanh',
  gelu_new: 'gelu-tanh',
  gelu_fast: 'gelu-tanh'
}

/**
 * Reads a Hugging Face config.json.
 *
 * @param json the file's object
 * @param file its name, for errors
 * @throws {UnsupportedModelError} for what cannot be computed; {CheckpointError} for what makes no sense.
 */
export function parseConfig(
  json: Record<string, unknown>,
  file: string,
  architectures?: readonly Architecture[]
): CheckpointConfig {
  const architecture = architectureOf(file, json.model_type, architectures)
  const parsed = Config.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw new CheckpointError(file, `${issue.path.join('.') || 'document'}: ${issue.message}`)
  }
  const config = parsed.data
  refuse(file, config, architecture)
  const { defaults } = architecture
  const heads = config.num_attention_heads
  const rope = config.rope_parameters ?? undefined
  const window = architecture.slidingWindow({ use_sliding_window: config.use_sliding_window ?? undefined })
  const contextLength = Math.min(
    config.max_position_embeddings,
    // Up to the window every token sees every other, as if there were none.
    window ? (config.sliding_window ?? Infinity) : Infinity
  )
  const shape: ModelShape = {
    architecture: architecture.name,
    decoderLayers: config.num_hidden_layers,
    hiddenSize: config.hidden_size,
    ffnSize: config.intermediate_size,
    heads,
    kvHeads: config.num_key_value_heads ?? defaults.kvHeads ?? heads,
    headSize: config.head_dim ?? defaults.headSize ?? config.hidden_size / heads,
    vocabSize: config.vocab_size,
    contextLength,
    normKind: architecture.normKind,
    normEpsilon: config.rms_norm_eps ?? defaults.normEpsilon,
    ...blocksOf(architecture, config.num_hidden_layers),
    rope: {
      theta: rope?.rope_theta ?? config.rope_theta ?? defaults.ropeTheta,
      ...ropeScaling(file, rope ?? config.rope_scaling ?? undefined)
    }
  }
  try {
    checkShape(shape)
  } catch (error) {
    throw new CheckpointError(file, (error as Error).message, { cause: error })
  }
  return {
    architecture,
    shape,
    tied: config.tie_word_embeddings ?? defaults.tied,
    bosTokenId: config.bos_token_id ?? undefined,
    eosTokenIds: tokenIds(config.eos_token_id)
  }
}

const Generation = z.looseObject({
  bos_token_id: tokenId.nullish(),
  eos_token_id: z.union([tokenId, z.array(tokenId).max(64)]).nullish()
})

/** The ids in generation_config.json, which win over those of config.json. */
export function parseGenerationConfig(
  json: Record<string, unknown>,
  file: string
): { bosTokenId: number | undefined; eosTokenIds: number[] | undefined } {
  const parsed = Generation.safeParse(json)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw new CheckpointError(file, `${issue.path.join('.')}: ${issue.message}`)
  }
  return {
    bosTokenId: parsed.data.bos_token_id ?? undefined,
    eosTokenIds: tokenIds(parsed.data.eos_token_id)
  }
}

function tokenIds(ids: number | number[] | null | undefined): number[] | undefined {
  return ids === null || ids === undefined ? undefined : [ids].flat()
}

function refuse(file: string, config: z.infer<typeof Config>, architecture: Architecture): void {
  const { name, className, pattern } = architecture
  const unsupported = (what: string) => {
    throw new UnsupportedModelError(`${file}: ${what} is not supported`)
  }
  // The same weights come with other heads: a classifier has no vocabulary to draw from.
  const classes = config.architectures ?? []
  if (classes.length > 0 && !classes.some(c => c.toLowerCase() === className.toLowerCase())) {
    unsupported(`${JSON.stringify(classes[0])} (only ${className} for ${name})`)
  }
  const act = config.hidden_act ?? undefined
  const activations = [...new Set(pattern.map(block => block.feedForward.activation))]
  if (act !== undefined && activations.some(activation => activation !== ACTIVATIONS[act])) {
    unsupported(`activation ${JSON.stringify(act.slice(0, 40))} (only ${activations} for ${name})`)
  }
  if (config.attention_bias === true && pattern.some(block => block.attention.bias === 'none')) {
    unsupported(`attention_bias for ${name}`)
  }
  if (config.mlp_bias === true) unsupported('mlp_bias')
  if ((config.partial_rotary_factor ?? 1) !== 1) unsupported('partial_rotary_factor')
  if (config.quantization_config !== undefined && config.quantization_config !== null) {
    unsupported('a checkpoint that is already quantised (quantization_config), except GGUF,')
  }
}

function ropeScaling(file: string, rope: z.infer<typeof Rope> | undefined): Pick<RopeSpec, 'scaling'> {
  const type = rope?.rope_type ?? rope?.type ?? 'default'
  if (rope === undefined || type === 'default') return {}
  if (type !== 'linear' && type !== 'llama3') {
    throw new UnsupportedModelError(
      `${file}: rope scaling ${JSON.stringify(type)} is not supported; supported are llama3 and linear`
    )
  }
  const { factor, low_freq_factor, high_freq_factor, original_max_position_embeddings } = rope
  if (typeof factor === 'number' && type === 'linear') return { scaling: { type, factor } }
  if (
    typeof factor !== 'number' ||
    typeof low_freq_factor !== 'number' ||
    typeof high_freq_factor !== 'number' ||
    typeof original_max_position_embeddings !== 'number' ||
    low_freq_factor >= high_freq_factor
  ) {
    throw new CheckpointError(
      file,
      `rope scaling ${type} lacks a factor, or its factors contradict each other`
    )
  }
  return {
    scaling: {
      type: 'llama3',
      factor,
      lowFreqFactor: low_freq_factor,
      highFreqFactor: high_freq_factor,
      originalContextLength: original_max_position_embeddings
    }
  }
}
