import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import type { GgufFile } from '../formats/gguf.ts'
import { checkShape, type ModelShape } from '../manifest.ts'
import { absentKeys, refuseOthers } from './absent.ts'
import type { Architecture } from './architectures/architecture.ts'
import { ARCHITECTURES, architectureOf, FORMAT_NAMES } from './architectures/index.ts'
import type { CheckpointConfig } from './config.ts'
import { expertsOfGguf, ggufExpertKeys, NO_EXPERTS } from './experts-config.ts'
import { GgufMetadata, keyOf } from './gguf-metadata.ts'
import { type GgufRope, ropeFactors, ropeOf } from './gguf-rope.ts'
import { ggufLatentKeys, type LatentSizes, latentOfGguf, latentScale } from './latent-config.ts'
import { attentionScale, isNotEvery, type LayerChoices, withBlocks } from './layer-choices.ts'
import { partsOfGguf, WHOLE_LAYERS } from './layer-parts.ts'
import { ggufPooling } from './pooling-card.ts'
import { ggufRecurrenceKeys, NO_RECURRENCE, recurrenceOfGguf } from './recurrence-config.ts'
import { foldsOf, type ReadSetting, settingsOf } from './settings.ts'
import { GGUF_HEAD_KEYS, headsOfGguf } from './window-heads.ts'

const words = (text: string) => new Set(text.trim().split(/\s+/))

/** What is read of `general.architecture`'s own keys, here or by ropeScaling. */
const READ = words(`
  attention.causal attention.head_count attention.head_count_kv attention.key_length attention.layer_norm_rms_epsilon
  attention.sliding_window attention.value_length block_count context_length embedding_length expert_count
  feed_forward_length pooling_type rope.dimension_count rope.freq_base rope.scale_linear rope.scaling.attn_factor
  rope.scaling.factor rope.scaling.original_context_length rope.scaling.type rope.scaling.yarn_attn_factor
  rope.scaling.yarn_beta_fast rope.scaling.yarn_beta_slow rope.scaling.yarn_ext_factor
  rope.scaling.yarn_log_multiplier
`)

/** What llama.cpp does not compute these architectures by either, though others. */
const NOT_READ_BY_LLAMA_CPP = words(`
  attention.layer_norm_epsilon attention.scale embedding_scale expert_used_count logit_scale
  residual_scale rope.scaling.finetuned tensor_data_layout vocab_size
`)

/**
 * What a GGUF file's metadata says of the model.
 *
 * @throws {UnsupportedModelError} for what cannot be computed; {CheckpointError} for what makes no sense.
 */
export async function ggufConfig(
  file: GgufFile,
  architectures?: readonly Architecture[]
): Promise<CheckpointConfig> {
  const { path, tensors } = file
  const metadata = new GgufMetadata(path, file.metadata)
  const architecture = ggufArchitecture(metadata, architectures)
  const latent = latentOfGguf(metadata, architecture)
  const given = ggufSizes(metadata, architecture, tensors, latent)
  const windows = windowsOf(metadata, architecture, given.decoderLayers)
  const { full, windowed, fullShares } = headsOfGguf(metadata, architecture, {
    ...given,
    ...windows,
    tensors,
    // What a cache keeps of a latent vector is as one head, whatever older files count.
    sameKvHeads: () => (latent ? 1 : (kvHeadsOf(metadata, architecture) ?? given.heads))
  })
  const sizes = { ...given, ...full }
  const check = (shape: ModelShape) => {
    try {
      checkShape(shape)
    } catch (error) {
      throw new CheckpointError(path, (error as Error).message, { cause: error })
    }
  }
  const rotated = latent?.turned ?? rotatedOf(metadata, architecture, sizes.headSize)
  const theta = metadata.optionalNumber(keyOf(metadata, 'rope.freq_base')) ?? architecture.defaults.ropeTheta
  const plain = { theta, ...(rotated < sizes.headSize && { rotated }) }
  // Before memory is allocated by its sizes, and again with what they say of positions.
  check(withBlocks({ ...sizes, rope: plain }, architecture, { ...NO_CHOICES, latent: latent?.latent }))
  const factors = await ropeFactors(file, rotated)
  const turning = ropeOf(metadata, {
    ...{ rope: plain, rotated, factors, contextLength: sizes.contextLength },
    unrounded: architecture.ggufUnrounded === true,
    latent: latent !== undefined
  })
  const read = readSetting(metadata)
  const choices = choicesOf(metadata, architecture, {
    ...{ sizes, plain, turning, read, tensors, windows, latent },
    windowHeads: windowed
  })
  const logitSoftcap = architecture.softcaps?.logits && read(architecture.softcaps.logits)
  const shape = withBlocks(
    {
      ...sizes,
      contextLength: turning.contextLength,
      rope: turning.rope,
      ...(logitSoftcap !== undefined && { logitSoftcap })
    },
    architecture,
    choices
  )
  check(shape)
  return {
    architecture,
    shape,
    folds: foldsOf(architecture, shape.hiddenSize, read, 0),
    tied: !tensors.has('output.weight'),
    guessingLayers: guessingLayersOf(metadata, architecture),
    keysAreValues: layer => fullShares && !choices.isWindowed(layer),
    bosTokenId: undefined,
    eosTokenIds: undefined,
    pooling: ggufPooling(metadata),
    notices: turning.notices
  }
}

type Sizes = Omit<ModelShape, 'rope' | 'blocks' | 'layout'>
type Windows = Pick<LayerChoices, 'window' | 'isWindowed'>

const NO_CHOICES: LayerChoices = {
  window: undefined,
  isWindowed: () => false,
  isTurned: () => true,
  windowRope: undefined,
  windowHeads: undefined,
  hasBias: false,
  hasHeadNorms: false,
  scale: undefined,
  softcap: undefined,
  queryGrowth: undefined,
  latent: undefined,
  experts: NO_EXPERTS,
  recurrence: NO_RECURRENCE,
  part: WHOLE_LAYERS
}

/** What the metadata says of layers, by the rules of llama.cpp where it says nothing. */
function choicesOf(
  metadata: GgufMetadata,
  architecture: Architecture,
  {
    sizes,
    plain,
    turning,
    read,
    tensors,
    latent,
    windows: { window, isWindowed },
    windowHeads
  }: {
    sizes: Sizes
    windows: Windows
    windowHeads: LayerChoices['windowHeads']
    plain: ModelShape['rope']
    turning: GgufRope
    read: ReadSetting
    tensors: GgufFile['tensors']
    latent: LatentSizes | undefined
  }
): LayerChoices {
  const key = (suffix: string) => keyOf(metadata, suffix)
  const { window: rule, unturnedEvery, queryGrowth, softcaps, attentionBias } = architecture
  const isTurned = (layer: number) =>
    rule?.fullUnturned && window !== undefined ? isWindowed(layer) : isNotEvery(layer, unturnedEvery)
  const own = typeof rule?.rope === 'object' ? rule.rope : undefined
  const windowTheta = own && (metadata.optionalNumber(key(own.gguf)) ?? own.theta)
  const growth = queryGrowth && metadata.optionalNumber(key(queryGrowth.gguf))
  const { huggingFace = '', gguf, ggufByHidden } = architecture.attentionScale ?? {}
  const byHidden = ggufByHidden?.includes(sizes.decoderLayers) === true
  const ownScale = () =>
    byHidden
      ? 1 / Math.sqrt(sizes.hiddenSize / sizes.heads)
      : attentionScale(architecture, gguf === undefined ? undefined : read({ huggingFace, gguf }))
  return {
    window,
    isWindowed,
    isTurned,
    windowRope:
      rule?.rope === undefined
        ? undefined
        : { ...plain, ...(windowTheta !== undefined && { theta: windowTheta }) },
    windowHeads,
    hasBias: attentionBias !== undefined && tensors.has('blk.0.attn_q.bias'),
    hasHeadNorms: architecture.queryKeyNorm !== undefined && tensors.has('blk.0.attn_q_norm.weight'),
    scale: latent === undefined ? ownScale() : latentScale(latent, turning.scores ?? 1),
    softcap: softcaps?.attention && read(softcaps.attention),
    queryGrowth: growth ? { factor: growth, tokens: turning.originalContextLength } : undefined,
    latent: latent?.latent,
    experts: expertsOfGguf(metadata, architecture, [...tensors.keys()]),
    recurrence: recurrenceOfGguf(metadata, architecture),
    part: partsOfGguf(metadata, architecture, (metadata.optionalNumber(key('expert_count')) ?? 0) > 0)
  }
}

/** Which layers have a window. */
function windowsOf(metadata: GgufMetadata, architecture: Architecture, decoderLayers: number): Windows {
  const key = (suffix: string) => keyOf(metadata, suffix)
  const { window: rule } = architecture
  const byDefault = rule?.ggufSays ? undefined : rule?.tokens
  const window = hasWindows(architecture)
    ? (metadata.optionalNumber(key('attention.sliding_window')) ?? byDefault) || undefined
    : undefined
  const every = metadata.pattern(key('attention.sliding_window_pattern'), decoderLayers) ?? rule?.fullEvery
  // No key of GGUF says from which layer on, so it is the class's default.
  const first = rule?.firstLayer ?? 0
  const isWindowed = (layer: number) =>
    window !== undefined &&
    (Array.isArray(every) ? every[layer]! : layer >= first && isNotEvery(layer, every))
  return { window, isWindowed }
}

/** llama.cpp computes windows for the classes that always have them; others are right up to their length only. */
function hasWindows({ window }: Architecture): boolean {
  return window !== undefined && !window.optional
}

function readSetting(metadata: GgufMetadata): ReadSetting {
  return setting => {
    const given = setting.gguf && metadata.optionalNumber(keyOf(metadata, setting.gguf))
    // llama.cpp takes 0 for none.
    if (given === undefined || given === '' || given === 0) return setting.default
    if (given > 0) return given
    throw new CheckpointError(metadata.file, `metadata ${setting.gguf} is ${given}`)
  }
}

/** Keys that an architecture has beyond those that all have. */
function ownKeys(architecture: Architecture): string[] {
  const { window, queryGrowth, guesses } = architecture
  return [
    ...(guesses === undefined ? [] : [guesses.gguf]),
    ...settingsOf(architecture).flatMap(({ gguf }) => gguf ?? []),
    ...ggufExpertKeys(architecture),
    ...ggufRecurrenceKeys(architecture),
    ...(architecture.turnsImages ? ['rope.dimension_sections'] : []),
    ...ggufLatentKeys(architecture),
    ...(queryGrowth === undefined ? [] : [queryGrowth.gguf]),
    ...(typeof window?.rope === 'object' ? [window.rope.gguf] : []),
    ...(window?.fullEvery === undefined ? [] : ['attention.sliding_window_pattern']),
    ...(window?.heads === undefined ? [] : GGUF_HEAD_KEYS),
    ...Object.keys(architecture.ggufOnly ?? {}),
    ...(architecture.ggufIgnores ?? []),
    ...absentKeys(architecture, 'gguf')
  ]
}

function ggufArchitecture(metadata: GgufMetadata, architectures?: readonly Architecture[]): Architecture {
  const { file } = metadata
  const name = metadata.optionalText('general.architecture')
  const all = architectures ?? ARCHITECTURES
  const hasExperts = (metadata.optionalNumber(`${name}.expert_count`) ?? 0) > 0
  // One name may stand for dense models and for mixtures of experts, as Mistral's and Mixtral's does, and for models with windows
  // and without, as OLMo 2's and 3's does.
  const hasWindow = metadata.optionalNumber(`${name}.attention.sliding_window`) !== undefined
  const isOther = ({ window }: Architecture) => (window?.ggufSays ?? false) !== hasWindow
  const sameKind = all
    .filter(({ experts }) => experts?.enabled || (experts !== undefined) === hasExperts)
    .toSorted((a, b) => Number(isOther(a)) - Number(isOther(b)))
  const isOne = sameKind.some(one => FORMAT_NAMES.GGUF(one).some(own => own === name))
  const architecture = architectureOf(file, 'GGUF', name, isOne ? sameKind : all)
  const unsupported = (what: string) => new UnsupportedModelError(`${file}: ${what} is not supported`)
  if (!isOne) throw unsupported(`${hasExperts ? 'a' : 'no'} mixture of experts for ${architecture.name}`)
  if (metadata.optionalFlag(`${name}.attention.causal`) === false) {
    throw unsupported('attention that is not causal (a model for embeddings)')
  }
  // Keys of other names are not read for this architecture by any program.
  const prefix = `${name}.`
  const ownOnes = ownKeys(architecture)
  for (const key of metadata.keys()) {
    const own = key.startsWith(prefix) ? key.slice(prefix.length) : undefined
    if (own === undefined || READ.has(own) || ownOnes.includes(own) || NOT_READ_BY_LLAMA_CPP.has(own)) {
      continue
    }
    throw new UnsupportedModelError(
      `${file}: the key ${JSON.stringify(key.slice(0, 80))} is not known and may change what the model computes`
    )
  }
  for (const [suffix, value] of Object.entries(architecture.ggufOnly ?? {})) {
    const given = metadata.optionalNumber(`${prefix}${suffix}`) ?? value
    if (given !== value) throw unsupported(`${suffix} ${given} for ${architecture.name}`)
  }
  refuseOthers(file, 'gguf', architecture, suffix => metadata.optionalNumber(`${prefix}${suffix}`))
  return architecture
}

function ggufSizes(
  metadata: GgufMetadata,
  architecture: Architecture,
  tensors: GgufFile['tensors'],
  latent: LatentSizes | undefined
): Omit<Sizes, 'kvHeads'> {
  const { file } = metadata
  const key = (suffix: string) => keyOf(metadata, suffix)
  const unsupported = (what: string) => new UnsupportedModelError(`${file}: ${what} is not supported`)
  const heads = metadata.same(key('attention.head_count'))
  const hiddenSize = metadata.number(key('embedding_length'))
  const plainSize = metadata.optionalNumber(key('attention.key_length')) ?? hiddenSize / heads
  const valueSize = metadata.optionalNumber(key('attention.value_length')) ?? plainSize
  if (valueSize !== plainSize && latent === undefined) {
    throw unsupported(`values of size ${valueSize} with keys of size ${plainSize}`)
  }
  const embedding = tensors.get('token_embd.weight')
  if (embedding === undefined) throw new CheckpointError(file, 'tensor token_embd.weight is missing')
  const decoderLayers = metadata.number(key('block_count')) - guessingLayersOf(metadata, architecture)
  return {
    architecture: architecture.name,
    decoderLayers,
    hiddenSize,
    ffnSize:
      sameWhereAny(metadata, key('feed_forward_length'), architecture.parts !== undefined) ??
      metadata.number(key(architecture.experts?.size ? 'expert_feed_forward_length' : 'feed_forward_length')),
    heads,
    headSize: latent ? latent.latent.size + latent.turned : plainSize,
    vocabSize: embedding.dims[0]!,
    contextLength: Math.min(
      metadata.number(key('context_length')),
      (!hasWindows(architecture) && metadata.optionalNumber(key('attention.sliding_window'))) || Infinity
    ),
    normKind: architecture.normKind,
    normEpsilon: metadata.number(key('attention.layer_norm_rms_epsilon'))
  }
}

/** Layers with a recurrence have 0, where there is a list. */
function kvHeadsOf(metadata: GgufMetadata, { recurrence }: Architecture): number | undefined {
  return sameWhereAny(metadata, keyOf(metadata, 'attention.head_count_kv'), recurrence !== undefined)
}

/** A number, or a list with one for each layer, which must be the same for all but those that may have 0. */
function sameWhereAny(metadata: GgufMetadata, key: string, may: boolean): number | undefined {
  const list = may ? metadata.perLayer(key) : undefined
  if (list === undefined) return metadata.optionalSame(key)
  const counts = new Set(list.filter(count => count !== 0))
  const [first] = counts
  if (counts.size === 1) return first
  throw new CheckpointError(metadata.file, `metadata ${key} is ${JSON.stringify(list).slice(0, 60)}`)
}

function guessingLayersOf(metadata: GgufMetadata, { guesses }: Architecture): number {
  const count = (guesses && metadata.optionalNumber(keyOf(metadata, guesses.gguf))) ?? 0
  if (Number.isInteger(count) && count >= 0) return count
  throw new CheckpointError(metadata.file, `metadata ${guesses?.gguf} is ${count}`)
}

function rotatedOf(
  metadata: GgufMetadata,
  { partialRotary, pattern }: Architecture,
  headSize: number
): number {
  // Files say what they like where nothing is turned.
  if (pattern.every(({ attention }) => attention.rotary === 'none')) return headSize
  const rotated = metadata.optionalNumber(keyOf(metadata, 'rope.dimension_count')) ?? headSize
  if (rotated === headSize || partialRotary !== undefined) return rotated
  throw new UnsupportedModelError(
    `${metadata.file}: rotary embedding of ${rotated} of ${headSize} values of a head is not supported`
  )
}
