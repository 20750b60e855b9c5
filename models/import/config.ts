import { isDeepStrictEqual } from 'node:util'
import { z } from 'zod'
import type { UnitSpec } from '../block-schema.ts'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { type Block, checkShape, type ModelShape } from '../manifest.ts'
import type { Pooling } from '../runtime/pooling.ts'
import { absentKeys, refuseOthers } from './absent.ts'
import type { Architecture } from './architectures/architecture.ts'
import { architectureOf } from './architectures/index.ts'
import { isBesideTheMaths } from './config-keys.ts'
import { expertKeys, expertsOfConfig } from './experts-config.ts'
import { guessingLayers } from './guessing-layers.ts'
import { type LatentSizes, latentKeys, latentOfConfig, latentScale } from './latent-config.ts'
import { attentionScale, withBlocks } from './layer-choices.ts'
import { partKeys, partsOfConfig } from './layer-parts.ts'
import { type QuantizationScheme, quantizationScheme } from './quantization/config.ts'
import { recurrenceKeys, recurrenceOfConfig } from './recurrence-config.ts'
import { rotaryOf } from './rope-config.ts'
import { type Folds, foldsOf, type ReadSetting, settingsOf } from './settings.ts'
import { layerRules } from './window-config.ts'
import { headKeys, headsOfConfig } from './window-heads.ts'

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
  /** Layers behind its last one that guess further tokens, and are left out. */
  guessingLayers: number
  /** What weights are changed by when they are imported. */
  folds: Folds
  /** Which decoder layers, from 0, have no values of their own: their keys are both. */
  keysAreValues: (layer: number) => boolean
  /** How hidden states become an embedding, where the checkpoint says so. */
  pooling?: Pooling | undefined
  /** What its user should know. */
  notices: string[]
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
  intermediate_size: count.nullish(),
  num_hidden_layers: count,
  num_attention_heads: count.nullish(),
  num_key_value_heads: count.nullish(),
  head_dim: count.nullish(),
  vocab_size: count.nullish(),
  max_position_embeddings: count.nullish(),
  rms_norm_eps: z.number().positive().lt(1).nullish(),
  // Rotary embedding is read by rotaryOf.
  rope_theta: z.unknown().optional(),
  rope_scaling: z.unknown().optional(),
  rope_parameters: z.unknown().optional(),
  partial_rotary_factor: z.unknown().optional(),
  hidden_act: z.string().nullish(),
  tie_word_embeddings: z.boolean().nullish(),
  attention_bias: z.boolean().nullish(),
  mlp_bias: z.boolean().nullish(),
  // Windows are read by layerRules, where the architecture has them.
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

/** Keys of classes that have layers of several kinds. */
const LayerKinds = z.object({
  sliding_window_pattern: z.union([z.number(), z.string()]).nullish(),
  no_rope_layers: z.array(z.int()).nullish(),
  no_rope_layer_interval: count.nullish()
})

/** transformers' names (ACT2FN); absent means the architecture's own. */
const ACTIVATIONS: Partial<Record<string, UnitSpec['activation']>> = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_pytorch_tanh: 'gelu-tanh',
  gelu_new: 'gelu-tanh',
  gelu_fast: 'gelu-tanh',
  relu2: 'relu2'
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
  const architecture = architectureOf(file, 'config.json', json.model_type, architectures)
  const parts = partsOfConfig(file, json, architecture)
  const parsed = Config.safeParse({ ...json, ...(parts && { num_hidden_layers: parts.length }) })
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    throw new CheckpointError(file, `${issue.path.join('.') || 'document'}: ${issue.message}`)
  }
  const config = parsed.data
  const own = ownKeys(architecture)
  refuse(file, config, architecture, own)
  const { defaults } = architecture
  const given = <T>(key: string, value: T | null | undefined, byDefault: T | undefined): T => {
    const found = value ?? byDefault
    if (found === undefined) throw new CheckpointError(file, `${key}: is missing`)
    return found
  }
  const heads = given('num_attention_heads', config.num_attention_heads, defaults.heads)
  const latent = latentOfConfig(file, config, architecture)
  const layerHeads = headsOfConfig(file, config, architecture, {
    headSize: latent?.turned ?? headSizeOf(file, config, architecture) ?? config.hidden_size / heads,
    // Left out, it is the class's default; null means as many as there are heads.
    kvHeads:
      (config.num_key_value_heads === undefined ? defaults.kvHeads : config.num_key_value_heads) ?? heads
  })
  const { headSize, kvHeads } = layerHeads.full
  const maxPositions = given(
    'max_position_embeddings',
    config.max_position_embeddings,
    defaults.contextLength
  )
  const rotary = rotaryOf(file, config, { architecture, headSize, maxPositions })
  const read = readSetting(file, config)
  const softcaps = architecture.softcaps ?? {}
  const logitSoftcap = softcaps.logits && read(softcaps.logits)
  const experts = expertsOfConfig(file, config, architecture)
  const choices = {
    // Layers of one part are what their own keys say; this one says no more (layer-parts.ts).
    ...layerRules(
      file,
      { ...config, ...layerKinds(file, config, own), ...(parts && { layer_types: undefined }) },
      architecture
    ),
    windowRope: rotary.windowRope,
    windowHeads: layerHeads.windowed,
    hasBias: config.attention_bias ?? architecture.attentionBias ?? false,
    hasHeadNorms: hasHeadNorms(file, config, architecture),
    scale:
      latent === undefined
        ? attentionScale(architecture, architecture.attentionScale && read(architecture.attentionScale))
        : latentScale(latent, rotary.scores),
    softcap: softcaps.attention && read(softcaps.attention),
    queryGrowth: rotary.queryGrowth,
    latent: latent?.latent,
    experts,
    recurrence: recurrenceOfConfig(file, config, architecture),
    part: (layer: number) => parts?.[layer]
  }
  const common = {
    architecture: architecture.name,
    decoderLayers: config.num_hidden_layers,
    hiddenSize: config.hidden_size,
    ffnSize:
      ffnSizeOf(file, config, architecture, experts(0) !== undefined) ??
      given('intermediate_size', undefined, experts(0)?.size),
    heads,
    kvHeads,
    headSize,
    ...(latent && latentHeads(file, config, heads, latent)),
    vocabSize: given('vocab_size', config.vocab_size, defaults.vocabSize),
    contextLength: rotary.contextLength,
    normKind: architecture.normKind,
    normEpsilon: normEpsilonOf(file, config, architecture),
    rope: latent === undefined ? rotary.rope : { ...rotary.rope, rotated: latent.turned },
    ...(logitSoftcap !== undefined && { logitSoftcap })
  }
  const shape = withBlocks(common, architecture, choices)
  const quantization = quantizationScheme(file, config)
  try {
    checkShape(shape)
  } catch (error) {
    throw new CheckpointError(file, (error as Error).message, { cause: error })
  }
  return {
    architecture,
    shape,
    folds: foldsOf(architecture, shape.hiddenSize, read, architecture.normsLackOne === true ? 1 : 0),
    keysAreValues: layer => layerHeads.fullShares && !choices.isWindowed(layer),
    tied: config.tie_word_embeddings ?? defaults.tied,
    guessingLayers: guessingLayers(file, config, architecture),
    ...(quantization && { quantization }),
    bosTokenId: config.bos_token_id ?? undefined,
    eosTokenIds: tokenIds(config.eos_token_id),
    notices: rotary.notices
  }
}

/** What a cache keeps of a token is as one head. */
function latentHeads(
  file: string,
  { num_key_value_heads: given }: { num_key_value_heads?: number | null | undefined },
  heads: number,
  { latent, turned }: LatentSizes
): { kvHeads: number; headSize: number } {
  if ((given ?? heads) !== heads) {
    throw new UnsupportedModelError(
      `${file}: num_key_value_heads ${given} for ${heads} heads is not supported`
    )
  }
  return { kvHeads: 1, headSize: latent.size + turned }
}

function hasHeadNorms(
  file: string,
  config: Record<string, unknown>,
  { queryKeyNorm: rule }: Architecture
): boolean {
  const given = (rule && config[rule.huggingFace]) ?? rule?.default ?? false
  if (typeof given === 'boolean') return given
  throw new CheckpointError(file, `${rule?.huggingFace} is neither true nor false`)
}

/** Keys of config.json that an architecture reads beyond those that all do. */
function ownKeys(architecture: Architecture): string[] {
  const { window, unturnedEvery, activationKeys = [], partialRotary, only = {} } = architecture
  const { queryKeyNorm, guesses } = architecture
  return [
    ...Object.keys(only),
    ...settingsOf(architecture).map(setting => setting.huggingFace),
    ...expertKeys(architecture),
    ...recurrenceKeys(architecture),
    ...partKeys(architecture),
    ...Object.values(architecture.keys ?? {}),
    ...(architecture.adjustsFfnSize === undefined ? [] : Object.keys(Adjusted.shape)),
    ...latentKeys(architecture),
    ...headKeys(architecture),
    ...absentKeys(architecture, 'huggingFace'),
    ...activationKeys,
    ...[queryKeyNorm, guesses].flatMap(key => key?.huggingFace ?? []),
    ...(architecture.rotatedKey === undefined ? [] : [architecture.rotatedKey]),
    ...(typeof window?.rope === 'object' ? [window.rope.huggingFace] : []),
    ...(window?.fullEvery === undefined ? [] : ['sliding_window_pattern']),
    ...(unturnedEvery === undefined ? [] : ['no_rope_layers', 'no_rope_layer_interval']),
    ...(partialRotary === undefined ? [] : ['original_max_position_embeddings'])
  ]
}

/** The keys about layers of several kinds that the architecture reads, checked. */
function layerKinds(
  file: string,
  config: Record<string, unknown>,
  own: readonly string[]
): z.infer<typeof LayerKinds> {
  const entries = Object.entries(config).filter(([key]) => own.includes(key))
  const parsed = LayerKinds.safeParse(Object.fromEntries(entries))
  if (parsed.success) return parsed.data
  const issue = parsed.error.issues[0]!
  throw new CheckpointError(file, `${issue.path.join('.')}: ${issue.message}`)
}

/** `rms_norm_eps`, whatever the architecture calls it. */
function normEpsilonOf(
  file: string,
  config: z.infer<typeof Config>,
  { keys, defaults }: Architecture
): number {
  const key = keys?.normEpsilon ?? 'rms_norm_eps'
  const parsed = Config.shape.rms_norm_eps.safeParse(config[key])
  if (parsed.success) return parsed.data ?? defaults.normEpsilon
  throw new CheckpointError(file, `${key}: ${parsed.error.issues[0]!.message}`)
}

/** `head_dim`, or what the architecture calls it in older files. */
function headSizeOf(
  file: string,
  config: z.infer<typeof Config>,
  { keys, defaults }: Architecture
): number | undefined {
  const older = count.nullish().safeParse(keys?.headSize === undefined ? undefined : config[keys.headSize])
  if (older.success) return config.head_dim ?? older.data ?? defaults.headSize
  throw new CheckpointError(file, `${keys?.headSize}: ${older.error.issues[0]!.message}`)
}

/** LFM2's keys about the size of its feed-forward parts. */
const Adjusted = z.object({
  block_ff_dim: count.nullish(),
  block_auto_adjust_ff_dim: z.boolean().nullish(),
  block_ffn_dim_multiplier: z.number().positive().lt(1024).nullish(),
  block_multiple_of: count.nullish()
})

/** The size of feed-forward parts; undefined where nothing says it. */
function ffnSizeOf(
  file: string,
  config: z.infer<typeof Config>,
  { keys, adjustsFfnSize }: Architecture,
  hasExperts: boolean
): number | undefined {
  const key = (hasExperts ? undefined : keys?.ffnSize) ?? 'intermediate_size'
  const own = count.nullish().safeParse(config[key])
  const parsed = Adjusted.safeParse(adjustsFfnSize ? config : {})
  if (!own.success || !parsed.success) {
    const { path = [], message } = (own.error ?? parsed.error)?.issues[0] ?? {}
    throw new CheckpointError(file, `${path.join('.') || key}: ${message}`)
  }
  const { block_ff_dim, block_auto_adjust_ff_dim, block_ffn_dim_multiplier, block_multiple_of } = parsed.data
  // Its class takes the older name before the other one.
  const size = block_ff_dim ?? own.data ?? undefined
  if (!adjustsFfnSize || size === undefined || block_auto_adjust_ff_dim === false) return size
  // transformers' Lfm2MLP: two thirds, times a factor, in whole steps.
  const part = Math.floor((2 * size) / 3)
  const multiplied = Math.floor((block_ffn_dim_multiplier ?? 1) * part)
  const step = block_multiple_of ?? 256
  return step * Math.ceil(multiplied / step)
}

function readSetting(file: string, config: Record<string, unknown>): ReadSetting {
  return setting => {
    const value = config[setting.huggingFace]
    // Left out, it is the class's default; null means none.
    if (value === undefined) return setting.default
    if (value === null) return undefined
    if (typeof value === 'number' && value > 0 && value < 2 ** 40) return value
    const shown = (JSON.stringify(value) ?? 'nothing').slice(0, 60)
    throw new CheckpointError(file, `${setting.huggingFace} is ${shown}, not a number above 0`)
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

/** The activations of those layers that have a feed-forward part. */
function activationsOf(pattern: readonly Block[]): UnitSpec['activation'][] {
  return pattern.flatMap(({ feedForward }) => (feedForward.kind === 'none' ? [] : feedForward.activation))
}

function refuse(
  file: string,
  config: z.infer<typeof Config>,
  architecture: Architecture,
  own: readonly string[]
): void {
  const { name, className, pattern, activationKeys = [], activationName } = architecture
  const unsupported = (what: string) => {
    throw new UnsupportedModelError(`${file}: ${what} is not supported`)
  }
  // The same weights come with other heads: a classifier has no vocabulary to draw from.
  const classes = config.architectures ?? []
  if (classes.length > 0 && !classes.some(c => c.toLowerCase() === className.toLowerCase())) {
    unsupported(`${JSON.stringify(classes[0])} (only ${className} for ${name})`)
  }
  const activations = [...new Set(activationsOf(pattern))]
  for (const key of ['hidden_act', ...activationKeys]) {
    const act = config[key] ?? undefined
    if (act === undefined) continue
    const isOwn = (activation: string) =>
      activationName === undefined ? activation === ACTIVATIONS[act as string] : act === activationName
    if (typeof act === 'string' && activations.every(isOwn)) continue
    unsupported(
      `activation ${JSON.stringify(act).slice(0, 42)} (only ${activationName ?? activations} for ${name})`
    )
  }
  const hasBiases =
    architecture.attentionBias !== undefined || pattern.every(b => b.attention.bias !== 'none')
  if (config.attention_bias === true && !hasBiases) {
    unsupported(`attention_bias for ${name}`)
  }
  if (config.mlp_bias === true) unsupported('mlp_bias')
  refuseOthers(file, 'huggingFace', architecture, key => config[key] ?? undefined)
  for (const [key, value] of Object.entries(architecture.only ?? {})) {
    const given = config[key] ?? value
    const isOnly = Array.isArray(value)
      ? isDeepStrictEqual(given, value)
      : [given].flat().every(one => one === value)
    if (!isOnly) unsupported(`${key} ${JSON.stringify(given).slice(0, 40)} for ${name}`)
  }
  for (const [key, value] of Object.entries(config)) {
    // What transformers leaves null is as if it were not there.
    if (value === null || Object.hasOwn(Config.shape, key) || own.includes(key)) continue
    if (isBesideTheMaths(key, architecture.ignores)) continue
    throw new UnsupportedModelError(
      `${file}: the key ${JSON.stringify(key.slice(0, 60))} is not known for ${name} and may change what the model ` +
        'computes; if it does not, take it out of the file'
    )
  }
}
