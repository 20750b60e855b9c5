import { z } from 'zod'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { type Block, checkShape, type ModelShape } from '../manifest.ts'
import type { Architecture } from './architectures/architecture.ts'
import { architectureOf, blocksOf } from './architectures/index.ts'
import { isBesideTheMaths } from './config-keys.ts'
import { type QuantizationScheme, quantizationScheme } from './quantization/config.ts'
import { ropeOf } from './rope-config.ts'

/** What config.json says of a checkpoint, checked. */
export interface CheckpointConfig {
  architecture: Architecture
  shape: ModelShape
  /** The output projection is the embedding table. */
  tied: boolean
  /** How the weights are quantised; absent: they are floats. */
  quantization?: QuantizationScheme
  bosTokenId: number | undefined
  eosTokenIds: number[] | undefined
}

const count = z
  .int()
  .min(1)
  .max(2 ** 40)
const tokenId = z
  .int()
  .min(0)
  .max(2 ** 31)

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
  // Rotary embedding is read by ropeOf.
  rope_theta: z.unknown().optional(),
  rope_scaling: z.unknown().optional(),
  rope_parameters: z.unknown().optional(),
  partial_rotary_factor: z.unknown().optional(),
  hidden_act: z.string().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  /** Read where the architecture has windows. */
  sliding_window: z.number().nullish(),
  use_sliding_window: z.boolean().nullish(),
  max_window_layers: z.number().nullish(),
  layer_types: z.array(z.string()).nullish(),
  quantization_config: z.unknown().optional(),
  /** MLX writes this one too, or alone. */
  quantization: z.unknown().optional(),
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
  const contextLength = Math.min(config.max_position_embeddings, windowOf(file, config, architecture))
  const shape: ModelShape = {
    architecture: architecture.name,
    decoderLayers: config.num_hidden_layers,
    hiddenSize: config.hidden_size,
    ffnSize: config.intermediate_size,
    heads,
    // Left out, it is the class's default; null means as many as there are heads.
    kvHeads:
      (config.num_key_value_heads === undefined ? defaults.kvHeads : config.num_key_value_heads) ?? heads,
    headSize: config.head_dim ?? defaults.headSize ?? config.hidden_size / heads,
    vocabSize: config.vocab_size,
    contextLength,
    normKind: architecture.normKind,
    normEpsilon: config.rms_norm_eps ?? defaults.normEpsilon,
    ...blocksOf(architecture, config.num_hidden_layers),
    rope: ropeOf(file, config, defaults.ropeTheta)
  }
  const quantization = quantizationScheme(file, config)
  try {
    checkShape(shape)
  } catch (error) {
    throw new CheckpointError(file, (error as Error).message, { cause: error })
  }
  return {
    architecture,
    shape,
    tied: config.tie_word_embeddings ?? defaults.tied,
    ...(quantization && { quantization }),
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
  for (const [key, value] of Object.entries(config)) {
    // What transformers leaves null is as if it were not there.
    if (value === null || Object.hasOwn(Config.shape, key) || isBesideTheMaths(key, architecture.ignores))
      continue
    throw new UnsupportedModelError(
      `${file}: the key ${JSON.stringify(key.slice(0, 60))} is not known for ${name} and may change what the model ` +
        'computes; if it does not, take it out of the file'
    )
  }
}

/**
 * Tokens up to which no layer's window hides one from another: so far, attention is as if there were no windows. A
 * layer has a window where `layer_types` says so, else from `max_window_layers` on.
 */
function windowOf(file: string, config: z.infer<typeof Config>, { name, window }: Architecture): number {
  const types = config.layer_types ?? undefined
  const known = ['full_attention', ...(window === undefined ? [] : ['sliding_attention'])]
  const strange = types?.find(type => !known.includes(type))
  if (strange !== undefined) {
    throw new UnsupportedModelError(
      `${file}: layer_types has ${JSON.stringify(strange.slice(0, 40))}, which is not supported for ${name}`
    )
  }
  if (window === undefined) return Infinity
  const used = window.optional ? config.use_sliding_window === true : true
  // Left out, it is the class's default; null means none.
  const tokens = used ? (config.sliding_window === undefined ? window.tokens : config.sliding_window) : null
  const first = window.firstLayer === undefined ? 0 : (config.max_window_layers ?? window.firstLayer)
  const some = window.optional
    ? (types?.includes('sliding_attention') ?? first < config.num_hidden_layers)
    : true
  if (types?.includes('sliding_attention') && tokens === null) {
    throw new CheckpointError(file, 'layer_types has windows, but there is no sliding_window')
  }
  if (tokens === null || !some) return Infinity
  if (Number.isInteger(tokens) && tokens >= 1) return tokens
  throw new CheckpointError(file, `sliding_window is ${tokens}, not a number of tokens`)
}
