import { z } from 'zod'
import type { LatentSpec } from '../block-schema.ts'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import type { Architecture, LatentRule } from './architectures/architecture.ts'
import { type GgufMetadata, keyOf } from './gguf-metadata.ts'

/** Attention over a latent vector of each token, by what a checkpoint says. */
export interface LatentSizes {
  latent: LatentSpec
  /** Values of a head that are turned. */
  turned: number
}

/** DeepSeek's keys of config.json. */
const KEYS = {
  query: 'q_lora_rank',
  size: 'kv_lora_rank',
  unturned: 'qk_nope_head_dim',
  turned: 'qk_rope_head_dim',
  value: 'v_head_dim'
} as const

/** What transformers writes beside them, and follows from them. */
const OF_HEADS = 'qk_head_dim'

const Count = z
  .int()
  .min(1)
  .max(2 ** 16)

/** Keys of config.json by which an architecture has latent vectors. */
export function latentKeys({ latent }: Architecture): string[] {
  return latent === undefined ? [] : [...Object.values(KEYS), OF_HEADS]
}

/**
 * What config.json says of latent vectors; undefined where the architecture has none.
 *
 * @throws {CheckpointError} naming a key that makes no sense, or contradicts the others.
 */
export function latentOfConfig(
  file: string,
  config: Record<string, unknown>,
  { latent: rule }: Architecture
): LatentSizes | undefined {
  if (rule === undefined) return undefined
  const read = (key: string, byDefault: number | undefined) => {
    const given = config[key]
    if (given === undefined) return byDefault
    // Only of queries null is a word: they have no latent vector.
    if (given === null && key === KEYS.query) return undefined
    const parsed = Count.safeParse(given)
    if (parsed.success) return parsed.data
    throw new CheckpointError(file, `${key}: ${parsed.error.issues[0]!.message}`)
  }
  const number = (name: Exclude<keyof LatentRule, 'query'>) => read(KEYS[name], rule[name])!
  const query = read(KEYS.query, rule.query)
  const turned = number('turned')
  const latent = { size: number('size'), unturned: number('unturned'), value: number('value') }
  const whole = latent.unturned + turned
  // Transformers calls the part of a head that is turned its size here, or all of it.
  const others: [key: string, allowed: number[]][] = [
    [OF_HEADS, [whole]],
    ['head_dim', [turned, whole]]
  ]
  for (const [key, allowed] of others) {
    const given = config[key] ?? undefined
    if (given === undefined || allowed.includes(given as number)) continue
    throw new CheckpointError(
      file,
      `${key} is ${JSON.stringify(given).slice(0, 40)}, but heads are of ${whole}`
    )
  }
  return { latent: { ...latent, ...(query !== undefined && { query }) }, turned }
}

/** Keys of GGUF's metadata by which an architecture has latent vectors. */
export function ggufLatentKeys({ latent }: Architecture): string[] {
  if (latent === undefined) return []
  return ['q_lora_rank', 'kv_lora_rank', 'key_length_mla', 'value_length_mla'].map(key => `attention.${key}`)
}

/**
 * What a GGUF file says of latent vectors, by the rules of llama.cpp: files whose keys and values are taken apart
 * (`attn_k_b`, `attn_v_b`) have the sizes of heads under keys of their own, older ones under those of other models.
 *
 * @throws {CheckpointError} for sizes that do not fit each other; {UnsupportedModelError} for a way of stretching contexts
 * that says nothing of scores.
 */
export function latentOfGguf(
  metadata: GgufMetadata,
  { latent: rule, name }: Architecture
): LatentSizes | undefined {
  if (rule === undefined) return undefined
  const { file } = metadata
  const key = (suffix: string) => keyOf(metadata, suffix)
  const number = (suffix: string) => metadata.optionalNumber(key(suffix)) || undefined
  const head = (part: 'key' | 'value') =>
    number(`attention.${part}_length_mla`) ?? metadata.number(key(`attention.${part}_length`))
  const size = metadata.number(key('attention.kv_lora_rank'))
  const query = number('attention.q_lora_rank')
  const turned = metadata.number(key('rope.dimension_count'))
  const whole = head('key')
  if (whole <= turned) {
    throw new CheckpointError(
      file,
      `heads of ${whole} are no larger than the ${turned} values that are turned`
    )
  }
  if (
    metadata.optionalText(key('rope.scaling.type')) === 'yarn' &&
    !number('rope.scaling.yarn_log_multiplier')
  ) {
    throw new UnsupportedModelError(
      `${file}: rope scaling yarn without ${key('rope.scaling.yarn_log_multiplier')} is not supported for ${name}`
    )
  }
  const latent = { size, unturned: whole - turned, value: head('value') }
  return { latent: { ...latent, ...(query !== undefined && { query }) }, turned }
}

/** What scores are multiplied with: 1 / sqrt(head), and YaRN's factor of them. */
export function latentScale({ latent: { unturned }, turned }: LatentSizes, ofYarn: number): number {
  return ofYarn / Math.sqrt(unturned + turned)
}
