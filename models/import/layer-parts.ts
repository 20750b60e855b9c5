import { z } from 'zod'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { MAX_DECODER_LAYERS } from '../manifest-schema.ts'
import type { Architecture } from './architectures/architecture.ts'
import { type GgufMetadata, keyOf } from './gguf-metadata.ts'

/** All that a layer of one part is. */
export type LayerPart = 'attention' | 'recurrence' | 'dense' | 'experts'

/** What decoder layer `layer`, from 0, is alone; undefined where layers have both parts. */
export type PartOf = (layer: number) => LayerPart | undefined

export const WHOLE_LAYERS: PartOf = () => undefined

/** Nemotron-H's letters, and the words that stand for them in newer files. */
const LETTERS: Readonly<Record<string, LayerPart>> = {
  M: 'recurrence',
  '*': 'attention',
  '-': 'dense',
  E: 'experts'
}
const WORDS: Readonly<Record<string, LayerPart>> = {
  mamba: 'recurrence',
  linear_attention: 'recurrence',
  attention: 'attention',
  full_attention: 'attention',
  mlp: 'dense',
  moe: 'experts'
}

/** A key of many classes, which may say it once more. */
const LAYER_TYPES = 'layer_types'

const Pattern = z.string().max(MAX_DECODER_LAYERS).nullish()
const Types = z.array(z.string()).max(MAX_DECODER_LAYERS).nullish()

/** Keys of config.json that say it. */
export function partKeys({ parts }: Architecture): string[] {
  return parts === undefined ? [] : [parts.pattern, parts.types]
}

/**
 * The parts of all layers by config.json; undefined where layers have both.
 *
 * @throws {CheckpointError} where it says nothing, or two things; {UnsupportedModelError} naming a part that is not known.
 */
export function partsOfConfig(
  file: string,
  config: Record<string, unknown>,
  { parts: rule, name }: Architecture
): LayerPart[] | undefined {
  if (rule === undefined) return undefined
  const read = <T>(schema: z.ZodType<T>, key: string): T => {
    const parsed = schema.safeParse(config[key])
    if (parsed.success) return parsed.data
    throw new CheckpointError(file, `${key}: ${parsed.error.issues[0]!.message}`)
  }
  const known = (key: string, table: Readonly<Record<string, LayerPart>>, word: string) => {
    const part = Object.hasOwn(table, word) ? table[word] : undefined
    if (part !== undefined) return part
    const shown = JSON.stringify(word.slice(0, 40))
    throw new UnsupportedModelError(`${file}: ${key} has ${shown}, which is not supported for ${name}`)
  }
  const letters = read(Pattern, rule.pattern) ?? undefined
  const words = read(Types, rule.types) ?? undefined
  const byLetters = letters?.split('').map(letter => known(rule.pattern, LETTERS, letter))
  const byWords = words?.map(word => known(rule.types, WORDS, word))
  if (byLetters !== undefined && byWords !== undefined && byLetters.join() !== byWords.join()) {
    throw new CheckpointError(file, `${rule.pattern} and ${rule.types} differ`)
  }
  const found = byWords ?? byLetters
  if (found === undefined || found.length === 0) {
    throw new CheckpointError(file, `${rule.pattern}: is missing, so what each layer is is not known`)
  }
  const types = read(Types, LAYER_TYPES)?.map(word => known(LAYER_TYPES, WORDS, word)) ?? found
  if (types.join() !== found.join()) {
    throw new CheckpointError(
      file,
      `${LAYER_TYPES} does not say the same as ${rule.pattern} or ${rule.types}`
    )
  }
  const count = config.num_hidden_layers ?? undefined
  if (count === undefined || count === found.length) return found
  throw new CheckpointError(file, `${rule.pattern} has ${found.length} layers, num_hidden_layers is ${count}`)
}

/**
 * The same by a GGUF file's metadata: layers with key and value heads attend, those with a feed-forward size are that, and the
 * others have a recurrence.
 *
 * @throws {CheckpointError} where a list is missing, or a layer has both.
 */
export function partsOfGguf(
  metadata: GgufMetadata,
  { parts: rule }: Architecture,
  hasExperts: boolean
): PartOf {
  if (rule === undefined) return WHOLE_LAYERS
  const list = (suffix: string) => {
    const key = keyOf(metadata, suffix)
    const found = metadata.perLayer(key)
    if (found !== undefined) return found
    throw new CheckpointError(
      metadata.file,
      `metadata ${key} is not a list, so what each layer is is not known`
    )
  }
  const [heads, sizes] = [list('attention.head_count_kv'), list('feed_forward_length')]
  const both = heads.findIndex((count, layer) => count > 0 && (sizes[layer] ?? 0) > 0)
  // Those behind the last one guess further tokens, and may.
  const layers = metadata.number(keyOf(metadata, 'block_count'))
  const guessing = metadata.optionalNumber(keyOf(metadata, 'nextn_predict_layers')) ?? 0
  if (both >= 0 && both < layers - guessing) {
    throw new CheckpointError(metadata.file, `layer ${both} attends and has a feed-forward part, too`)
  }
  return layer => {
    if ((heads[layer] ?? 0) > 0) return 'attention'
    if ((sizes[layer] ?? 0) === 0) return 'recurrence'
    return hasExperts ? 'experts' : 'dense'
  }
}
