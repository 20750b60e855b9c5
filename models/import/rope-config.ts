import { isDeepStrictEqual } from 'node:util'
import { plainRope } from '../blocks.ts'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import type { Block, RopeSpec } from '../manifest.ts'
import type { Architecture } from './architectures/architecture.ts'
import { divided, type Scaled, yarn } from './rope-scaling.ts'

/** What config.json says of rotary embedding, in any of the places that transformers has had for it. */
export interface RopeKeys {
  rope_theta?: unknown
  rope_scaling?: unknown
  /** Transformers 5 has theta, scaling and the part of a head here. */
  rope_parameters?: unknown
  partial_rotary_factor?: unknown
  original_max_position_embeddings?: unknown
  [ownKey: string]: unknown
}

/** What else decides about rotary embedding. */
export interface RopeContext {
  architecture: Architecture
  headSize: number
  /** `max_position_embeddings` */
  maxPositions: number
}

/** How q and k are turned, and what hangs on it. */
export interface RotaryConfig {
  rope: RopeSpec
  /** The turning of layers with a window, where theirs is another. */
  windowRope: RopeSpec | undefined
  /** Positions up to which that is right. */
  contextLength: number
  queryGrowth: Block['attention']['queryGrowth'] | undefined
  /** What classes with latent vectors multiply scores with. */
  scores: number
  notices: string[]
}

/** Numbers of each kind of scaling: those that must be there, those that may be, and none besides. */
const NUMBERS = {
  default: { needed: [], optional: [] },
  linear: { needed: ['factor'], optional: [] },
  dynamic: { needed: ['factor'], optional: ['original_max_position_embeddings'] },
  llama3: {
    needed: ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'],
    optional: []
  },
  yarn: {
    needed: ['factor'],
    optional: [
      'original_max_position_embeddings',
      'beta_fast',
      'beta_slow',
      'attention_factor',
      'attn_factor',
      'mscale',
      'mscale_all_dim',
      'llama_4_scaling_beta'
    ]
  },
  proportional: { needed: [], optional: [] },
  longrope: { needed: [], optional: ['factor', 'original_max_position_embeddings', 'attention_factor'] }
} as const

type Kind = keyof typeof NUMBERS

/** Older names. */
const RENAMED: Partial<Record<string, Kind>> = { su: 'longrope' }
/** How images have positions of three kinds; those of a text are alike. */
const OF_IMAGES = ['mrope_interleaved', 'mrope_section']
/** What Hunyuan's class does not read where there is an `alpha`. */
const BESIDE_ALPHA = ['beta_fast', 'beta_slow', 'factor', 'mscale', 'mscale_all_dim']
/** What is no number. */
const LISTS = ['short_factor', 'long_factor']

/** One of the two objects, read. */
interface RopeObject {
  theta: number | undefined
  /** The part of a head that is turned. */
  part: number | undefined
  kind: Kind
  numbers: Partial<Record<string, number>>
  lists: Partial<Record<string, number[]>>
  truncate: boolean
  /** By which the base grows (`alpha`), for a power that hangs on the size of a head. */
  alpha?: number
}

/**
 * Reads rotary embedding strictly: two places that differ, a kind of scaling that is not computed, and any number that
 * the kind has no use for are refused by name.
 *
 * @throws {UnsupportedModelError} for what is not computed; {CheckpointError} for what contradicts itself.
 */
export function rotaryOf(file: string, config: RopeKeys, context: RopeContext): RotaryConfig {
  const { window, defaults } = context.architecture
  const outside = optionalNumber(file, 'rope_theta', config.rope_theta)
  const { full, windowed } = readParameters(file, config.rope_parameters, context)
  const older = readObject(file, 'rope_scaling', config.rope_scaling, context.architecture)
  if (
    full !== undefined &&
    older !== undefined &&
    !isDeepStrictEqual(scalingPart(full), scalingPart(older))
  ) {
    throw new CheckpointError(
      file,
      'rope_parameters and rope_scaling differ in how positions are scaled, and programs differ in which one they ' +
        'follow: take one of them out'
    )
  }
  const base = same(file, 'rope_theta', [outside, full?.theta, older?.theta]) ?? defaults.ropeTheta
  const found = full ?? older
  const { headSize } = context
  const theta = found?.alpha === undefined ? base : base * found.alpha ** (headSize / (headSize - 2))
  if (found === undefined && context.architecture.scalingNeeded) {
    throw new UnsupportedModelError(
      `${file}: rope_scaling is missing, or null: programs differ in what ${context.architecture.name} has then`
    )
  }
  const rotated = rotatedOf(file, config, [full, older], context)
  const scaled = scalingOf(file, found ?? proportionalByDefault(context), config, { ...context, rotated })
  const turned = { theta, ...(rotated !== undefined && { rotated }) }
  const plain = (rope: RopeSpec) => plainRope(rope, context.headSize)
  return {
    rope: plain({ ...turned, ...(scaled.scaling && { scaling: scaled.scaling }) }),
    windowRope: windowRopeOf(),
    contextLength: scaled.contextLength,
    queryGrowth: queryGrowthOf(file, found, context),
    scores: scaled.scores ?? 1,
    notices: scaled.notices
  }

  function windowRopeOf(): RopeSpec | undefined {
    if (window?.rope === undefined) return undefined
    if (window.rope === 'unscaled') return plain(turned)
    const { huggingFace: key, theta: byDefault } = window.rope
    const own = same(file, key, [optionalNumber(file, key, config[key]), windowed?.theta])
    return plain({ ...turned, theta: own ?? byDefault })
  }
}

function scalingPart({ kind, numbers, lists, truncate, alpha }: RopeObject): unknown {
  return { kind, numbers, lists, truncate, alpha }
}

function same(file: string, key: string, values: (number | undefined)[]): number | undefined {
  const given = values.filter(value => value !== undefined)
  if (given.every(value => value === given[0])) return given[0]
  throw new CheckpointError(file, `${key} is given as ${[...new Set(given)].join(' and as ')}`)
}

/** `rope_parameters`, or those of layers without and with a window where each kind has its own. */
function readParameters(
  file: string,
  value: unknown,
  { architecture }: RopeContext
): { full: RopeObject | undefined; windowed: RopeObject | undefined } {
  const { window } = architecture
  const place = 'rope_parameters'
  const nested = ['full_attention', 'sliding_attention'] as const
  const isNested =
    typeof value === 'object' &&
    value !== null &&
    Object.keys(value).every(key => nested.includes(key as never))
  if (window?.rope === undefined || !isNested || Object.keys(value).length === 0) {
    return { full: readObject(file, place, value, architecture), windowed: undefined }
  }
  const [full, windowed] = nested.map(key =>
    readObject(file, `${place}.${key}`, (value as Record<string, unknown>)[key], architecture)
  )
  if (windowed !== undefined && (windowed.kind !== 'default' || (windowed.part ?? 1) !== 1)) {
    throw new UnsupportedModelError(
      `${file}: ${place}.sliding_attention: rope scaling of windows is not supported`
    )
  }
  return { full, windowed }
}

/** How many values of a head are turned; undefined: all. */
function rotatedOf(
  file: string,
  config: RopeKeys,
  objects: (RopeObject | undefined)[],
  { architecture, headSize }: RopeContext
): number | undefined {
  const key = 'partial_rotary_factor'
  const outside = optionalNumber(file, key, config[key])
  const { rotatedKey } = architecture
  const rotated = rotatedKey && optionalNumber(file, rotatedKey, config[rotatedKey])
  const counted = rotated ? [rotated / headSize] : []
  const part = same(file, key, [outside, ...objects.map(partTurned), ...counted])
  if (architecture.partialRotary === undefined) {
    if (part === undefined || part === 1) return undefined
    const place = outside === undefined ? `rope_parameters.${key}` : key
    throw new UnsupportedModelError(
      `${file}: ${place} ${part} is not supported for ${architecture.name}: a part of each head is turned`
    )
  }
  // As transformers rounds it.
  return rotated || Math.floor(headSize * (part ?? architecture.partialRotary))
}

/** The part of a head's values that is turned; where the others are pairs that stand still, it is said by the scaling. */
function partTurned(object: RopeObject | undefined): number | undefined {
  return object?.kind === 'proportional' ? undefined : object?.part
}

function proportionalByDefault({ architecture }: RopeContext): RopeObject | undefined {
  const part = architecture.proportionalRotary
  if (part === undefined) return undefined
  return { theta: undefined, part, kind: 'proportional', numbers: {}, lists: {}, truncate: true }
}

function readObject(
  file: string,
  place: string,
  value: unknown,
  { turnsImages, alphaTheta }: Architecture
): RopeObject | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new CheckpointError(file, `${place} is not an object`)
  }
  const entries = Object.entries(value).filter(
    ([key, entry]) => entry !== null && !(turnsImages && OF_IMAGES.includes(key))
  )
  // Python takes an empty object for none.
  if (entries.length === 0) return undefined
  const {
    rope_type,
    type: olderName,
    rope_theta,
    partial_rotary_factor,
    truncate = true,
    ...rest
  } = Object.fromEntries(entries)
  const nested = Object.keys(rest).find(key => typeof rest[key] === 'object' && !LISTS.includes(key))
  if (nested !== undefined) {
    throw new UnsupportedModelError(
      `${file}: ${place}.${nested.slice(0, 40)} is not supported: rotary embedding that differs from layer to layer`
    )
  }
  if (rope_type !== undefined && olderName !== undefined && rope_type !== olderName) {
    throw new CheckpointError(
      file,
      `${place} has the rope_type ${quote(rope_type)} and the type ${quote(olderName)}`
    )
  }
  const name = rope_type ?? olderName ?? 'default'
  const kind = (typeof name === 'string' && RENAMED[name]) || name
  if (typeof kind !== 'string' || !Object.hasOwn(NUMBERS, kind)) {
    throw new UnsupportedModelError(
      `${file}: rope scaling ${quote(kind)} is not supported; supported are ${Object.keys(NUMBERS).slice(1).join(', ')}`
    )
  }
  const common = {
    theta: optionalNumber(file, `${place}.rope_theta`, rope_theta),
    part: optionalNumber(file, `${place}.partial_rotary_factor`, partial_rotary_factor)
  }
  if (alphaTheta && kind === 'dynamic' && rest.alpha !== undefined && truncate === true) {
    const strange = Object.keys(rest).find(key => key !== 'alpha' && !BESIDE_ALPHA.includes(key))
    const alpha = optionalNumber(file, `${place}.alpha`, rest.alpha)
    if (strange === undefined) {
      const none = { kind: 'default' as const, numbers: {}, lists: {}, truncate }
      return { ...common, ...none, ...(alpha !== undefined && { alpha }) }
    }
  }
  const object = {
    ...common,
    kind: kind as Kind,
    ...readNumbers(file, place, kind as Kind, rest)
  }
  if (typeof truncate !== 'boolean' || (kind !== 'yarn' && !truncate)) {
    throw new UnsupportedModelError(`${file}: ${place}.truncate ${quote(truncate)} is not supported`)
  }
  return { ...object, truncate }
}

function readNumbers(
  file: string,
  place: string,
  kind: Kind,
  rest: Record<string, unknown>
): Pick<RopeObject, 'numbers' | 'lists'> {
  const { needed, optional }: { needed: readonly string[]; optional: readonly string[] } = NUMBERS[kind]
  const lists = kind === 'longrope' ? LISTS : []
  const strange = Object.keys(rest).find(key => ![...needed, ...optional, ...lists].includes(key))
  if (strange !== undefined) {
    throw new UnsupportedModelError(
      `${file}: ${place}.${strange.slice(0, 40)} is not supported with rope scaling ${kind}`
    )
  }
  const lacking = [...needed, ...lists].find(key => rest[key] === undefined)
  if (lacking !== undefined)
    throw new CheckpointError(file, `${place}: rope scaling ${kind} lacks a ${lacking}`)
  const read = (keys: readonly string[]) => Object.entries(rest).filter(([key]) => keys.includes(key))
  return {
    numbers: Object.fromEntries(
      read([...needed, ...optional]).map(([key, value]) => [
        key,
        optionalNumber(file, `${place}.${key}`, value)!
      ])
    ),
    lists: Object.fromEntries(
      read(lists).map(([key, value]) => [key, numberList(file, `${place}.${key}`, value)])
    )
  }
}

interface ScaledContext extends RopeContext {
  /** Values of a head that are turned; undefined: all. */
  rotated: number | undefined
}

function scalingOf(
  file: string,
  found: RopeObject | undefined,
  config: RopeKeys,
  { architecture, headSize, rotated = headSize, maxPositions }: ScaledContext
): Scaled {
  const none = { scaling: undefined, contextLength: maxPositions, notices: [] }
  if (found === undefined) return none
  const { kind, numbers, lists, truncate } = found
  const key = 'original_max_position_embeddings'
  const beside = architecture.partialRotary === undefined ? undefined : optionalNumber(file, key, config[key])
  const original = numbers[key] ?? beside ?? maxPositions
  switch (kind) {
    case 'default':
      return none
    case 'linear':
      return { ...none, scaling: { type: 'linear', factor: numbers.factor! } }
    case 'dynamic':
      return {
        scaling: undefined,
        contextLength: Math.min(original, maxPositions),
        notices: [
          'rope scaling dynamic turns otherwise the longer a text is: the model is taken with the context up to which ' +
            'it does not'
        ]
      }
    case 'llama3':
      return { ...none, scaling: llama3(file, numbers) }
    case 'yarn':
      return yarn({ numbers, originalContextLength: original, truncate, maxPositions })
    case 'proportional':
      return { ...none, scaling: proportional(file, found, { architecture, headSize }) }
    case 'longrope':
      return divided(file, {
        short: lists.short_factor!,
        pairs: rotated / 2,
        factor: numbers.factor ?? maxPositions / original,
        magnitude: numbers.attention_factor,
        originalContextLength: original,
        maxPositions
      })
  }
}

function proportional(
  file: string,
  { part = 1 }: RopeObject,
  { architecture, headSize }: Pick<RopeContext, 'architecture' | 'headSize'>
): NonNullable<RopeSpec['scaling']> | undefined {
  if (architecture.proportionalRotary === undefined) {
    throw new UnsupportedModelError(
      `${file}: rope scaling "proportional" is not supported for ${architecture.name}`
    )
  }
  // As transformers rounds it.
  const pairs = Math.floor((part * headSize) / 2)
  return pairs === headSize / 2 ? undefined : { type: 'proportional', pairs }
}

function llama3(file: string, numbers: RopeObject['numbers']): NonNullable<RopeSpec['scaling']> {
  const scaling = {
    type: 'llama3' as const,
    factor: numbers.factor!,
    lowFreqFactor: numbers.low_freq_factor!,
    highFreqFactor: numbers.high_freq_factor!,
    originalContextLength: numbers.original_max_position_embeddings!
  }
  if (scaling.lowFreqFactor >= scaling.highFreqFactor) {
    throw new CheckpointError(file, 'rope scaling llama3: low_freq_factor is not below high_freq_factor')
  }
  return scaling
}

function queryGrowthOf(
  file: string,
  found: RopeObject | undefined,
  { architecture: { queryGrowth, name } }: RopeContext
): RotaryConfig['queryGrowth'] {
  const factor = found?.numbers.llama_4_scaling_beta
  if (factor === undefined) return undefined
  const tokens = found?.numbers.original_max_position_embeddings
  if (queryGrowth === undefined || tokens === undefined) {
    throw new UnsupportedModelError(`${file}: llama_4_scaling_beta is not supported for ${name}`)
  }
  return { factor, tokens }
}

function numberList(file: string, key: string, value: unknown): number[] {
  if (!Array.isArray(value)) throw new CheckpointError(file, `${key} is not a list`)
  return value.map((entry, i) => optionalNumber(file, `${key}.${i}`, entry) ?? Number.NaN)
}

function optionalNumber(file: string, key: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number' && value > 0 && value < 2 ** 40) return value
  throw new CheckpointError(file, `${key} is ${quote(value)}, not a number above 0`)
}

function quote(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').slice(0, 60)
}
