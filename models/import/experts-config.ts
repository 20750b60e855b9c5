import { z } from 'zod'
import type { ExpertsSpec } from '../block-schema.ts'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import type { Architecture, ExpertsRule } from './architectures/architecture.ts'
import { type GgufMetadata, keyOf } from './gguf-metadata.ts'

/** The experts of decoder layer `layer`, from 0; undefined where it has a dense feed-forward part. */
export type ExpertsOf = (layer: number) => Omit<ExpertsSpec, 'kind' | 'activation'> | undefined

export const NO_EXPERTS: ExpertsOf = () => undefined

const Count = z
  .int()
  .min(1)
  .max(2 ** 40)
const Sparse = z.object({
  decoder_sparse_step: Count.nullish(),
  mlp_only_layers: z.array(z.int().min(0)).nullish()
})
const Flag = z.boolean().nullish()

/** Keys of config.json by which an architecture has experts. */
export function expertKeys({ experts }: Architecture): string[] {
  if (experts === undefined) return []
  const { count, used, size, shared, normalised, dense } = experts
  const numbers = [count, used, size, shared?.size]
  return [
    ...numbers.flatMap(key => (key === undefined ? [] : [key.huggingFace, ...(key.also ? [key.also] : [])])),
    ...(typeof normalised === 'boolean' ? [] : [normalised.huggingFace]),
    ...(dense === 'sparse-step' ? Object.keys(Sparse.shape) : [])
  ]
}

/**
 * What config.json says of experts.
 *
 * @throws {CheckpointError} naming a key that makes no sense.
 */
export function expertsOfConfig(
  file: string,
  config: Record<string, unknown>,
  { experts: rule }: Architecture
): ExpertsOf {
  if (rule === undefined) return NO_EXPERTS
  const read = <T>(schema: z.ZodType<T>, key: string): T => {
    const parsed = schema.safeParse(config[key])
    if (parsed.success) return parsed.data
    throw new CheckpointError(file, `${key}: ${parsed.error.issues[0]!.message}`)
  }
  const number = ({ huggingFace, default: byDefault, also }: ExpertsRule['count']) => {
    const found = read(Count.nullish(), huggingFace) ?? byDefault
    const other = also === undefined ? found : (read(Count.nullish(), also) ?? found)
    if (other === found) return found
    throw new CheckpointError(file, `${huggingFace} is ${found}, but ${also} is ${other}`)
  }
  const { normalised } = rule
  const spec = specOf(rule, {
    count: number(rule.count),
    used: number(rule.used),
    size: rule.size && number(rule.size),
    sharedSize: rule.shared && number(rule.shared.size),
    normalised:
      typeof normalised === 'boolean'
        ? normalised
        : (read(Flag, normalised.huggingFace) ?? normalised.default)
  })
  if (rule.dense !== 'sparse-step') return () => spec
  const step = read(Sparse.shape.decoder_sparse_step, 'decoder_sparse_step') ?? 1
  const dense = new Set(read(Sparse.shape.mlp_only_layers, 'mlp_only_layers') ?? [])
  return layer => (dense.has(layer) || (layer + 1) % step !== 0 ? undefined : spec)
}

/** Keys of GGUF's metadata by which an architecture has experts. */
export function ggufExpertKeys({ experts }: Architecture): string[] {
  if (experts === undefined) return []
  return [
    'expert_used_count',
    'expert_weights_norm',
    'expert_weights_scale',
    'expert_gating_func',
    ...(experts.size ? ['expert_feed_forward_length'] : []),
    ...(experts.shared ? ['expert_shared_feed_forward_length'] : [])
  ]
}

/**
 * What a GGUF file says of experts, by the rules of llama.cpp where it says nothing.
 *
 * @throws {CheckpointError} naming a key that makes no sense; {UnsupportedModelError} for another kind of router.
 */
export function expertsOfGguf(metadata: GgufMetadata, { experts: rule, name }: Architecture): ExpertsOf {
  if (rule === undefined) return NO_EXPERTS
  const key = (suffix: string) => keyOf(metadata, suffix)
  const normalised = typeof rule.normalised === 'boolean' ? rule.normalised : rule.normalised.gguf
  const others: [suffix: string, allowed: boolean][] = [
    ['expert_weights_norm', (metadata.optionalFlag(key('expert_weights_norm')) ?? normalised) === normalised],
    // 0 and 1 are the softmax and no factor, as is what is left out.
    ['expert_gating_func', (metadata.optionalNumber(key('expert_gating_func')) ?? 0) <= 1],
    ['expert_weights_scale', [0, 1].includes(metadata.optionalNumber(key('expert_weights_scale')) ?? 0)]
  ]
  const [strange] = others.find(([, allowed]) => !allowed) ?? []
  if (strange !== undefined) {
    throw new UnsupportedModelError(
      `${metadata.file}: metadata ${key(strange)} is not what ${name} has, and not supported`
    )
  }
  const spec = specOf(rule, {
    count: metadata.number(key('expert_count')),
    used: metadata.number(key('expert_used_count')),
    size: rule.size && metadata.number(key('expert_feed_forward_length')),
    sharedSize:
      rule.shared &&
      (metadata.optionalNumber(key('expert_shared_feed_forward_length')) ??
        metadata.same(key('feed_forward_length'))),
    normalised
  })
  // As llama.cpp has it, layers without them are not of these architectures: their tensors would be missed.
  return () => spec
}

function specOf(
  { shared, bias }: ExpertsRule,
  given: {
    count: number
    used: number
    size: number | undefined
    sharedSize: number | undefined
    normalised: boolean
  }
): ReturnType<ExpertsOf> {
  const { count, used, size, sharedSize, normalised } = given
  return {
    experts: count,
    used,
    ...(size !== undefined && { size }),
    router: 'softmax',
    ...(bias && { bias }),
    ...(normalised && { normalised }),
    ...(sharedSize !== undefined && {
      shared: { size: sharedSize, ...(shared?.gated && { gated: true as const }) }
    })
  }
}
