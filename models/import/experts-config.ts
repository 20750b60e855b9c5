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
const FewOrNone = z.int().min(0).max(1024)
const Sparse = z.object({
  decoder_sparse_step: Count.nullish(),
  mlp_only_layers: z.array(z.int().min(0)).nullish()
})
const Flag = z.boolean().nullish()

/** Keys of config.json by which an architecture has experts. */
export function expertKeys({ experts }: Architecture): string[] {
  if (experts === undefined) return []
  const { enabled, count, used, size, shared, normalised, dense } = experts
  const numbers = [
    count,
    used,
    size,
    shared && sharedKey(shared),
    typeof dense === 'object' ? dense.first : undefined
  ]
  return [
    ...numbers.flatMap(key => (key === undefined ? [] : [key.huggingFace, ...(key.also ? [key.also] : [])])),
    ...(enabled ? [enabled.huggingFace] : []),
    ...(typeof normalised === 'boolean' ? [] : [normalised.huggingFace]),
    ...(dense === 'sparse-step' ? Object.keys(Sparse.shape) : [])
  ]
}

function sharedKey(shared: NonNullable<ExpertsRule['shared']>): ExpertsRule['count'] {
  return 'size' in shared ? shared.size : shared.count
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
  if (rule.enabled && read(Flag, rule.enabled.huggingFace) !== true) return NO_EXPERTS
  const number = ({ huggingFace, default: byDefault, also }: ExpertsRule['count'], schema = Count) => {
    const found = read(schema.nullish(), huggingFace) ?? byDefault
    const other = also === undefined ? found : (read(schema.nullish(), also) ?? found)
    if (other === found) return found
    throw new CheckpointError(file, `${huggingFace} is ${found}, but ${also} is ${other}`)
  }
  const { normalised, dense } = rule
  const size = rule.size && number(rule.size)
  const spec = specOf(rule, {
    count: number(rule.count),
    used: number(rule.used),
    size,
    shared: rule.shared && number(sharedKey(rule.shared), 'size' in rule.shared ? Count : FewOrNone),
    normalised:
      typeof normalised === 'boolean'
        ? normalised
        : (read(Flag, normalised.huggingFace) ?? normalised.default)
  })
  if (dense === undefined) return () => spec
  if (dense !== 'sparse-step') {
    const first = number(dense.first, FewOrNone)
    return layer => (layer < first ? undefined : spec)
  }
  const step = read(Sparse.shape.decoder_sparse_step, 'decoder_sparse_step') ?? 1
  const without = new Set(read(Sparse.shape.mlp_only_layers, 'mlp_only_layers') ?? [])
  return layer => (without.has(layer) || (layer + 1) % step !== 0 ? undefined : spec)
}

/** Keys of GGUF's metadata by which an architecture has experts. */
export function ggufExpertKeys({ experts }: Architecture): string[] {
  if (experts === undefined) return []
  const { size, shared, dense } = experts
  return [
    'expert_used_count',
    'expert_weights_norm',
    'expert_weights_scale',
    'expert_gating_func',
    'expert_group_count',
    'expert_group_used_count',
    ...(size ? ['expert_feed_forward_length'] : []),
    ...(shared ? [ggufSharedKey(shared)] : []),
    ...(typeof dense === 'object' ? [GGUF_FIRST_DENSE] : [])
  ]
}

const GGUF_FIRST_DENSE = 'leading_dense_block_count'

function ggufSharedKey(shared: NonNullable<ExpertsRule['shared']>): string {
  return 'size' in shared ? 'expert_shared_feed_forward_length' : 'expert_shared_count'
}

/** `expert_gating_func`: llama.cpp's numbers; 0, as what is left out, is what the architecture has. */
const GATING_FUNCTIONS = { softmax: 1, sigmoid: 2 } as const

/**
 * What a GGUF file says of experts, by the rules of llama.cpp where it says nothing.
 *
 * @throws {CheckpointError} naming a key that makes no sense; {UnsupportedModelError} for another kind of router.
 */
export function expertsOfGguf(metadata: GgufMetadata, { experts: rule, name }: Architecture): ExpertsOf {
  if (rule === undefined) return NO_EXPERTS
  const key = (suffix: string) => keyOf(metadata, suffix)
  const number = (suffix: string) => metadata.optionalNumber(key(suffix))
  if (rule.enabled && !number('expert_count')) return NO_EXPERTS
  const { router = 'softmax', shared, dense } = rule
  const flag = metadata.optionalFlag(key('expert_weights_norm'))
  const byDefault = typeof rule.normalised === 'boolean' ? rule.normalised : rule.normalised.gguf
  const saysNormalised = typeof rule.normalised === 'object' && rule.normalised.ggufSays === true
  const others: [suffix: string, allowed: boolean][] = [
    ['expert_weights_norm', saysNormalised || (flag ?? byDefault) === byDefault],
    ['expert_gating_func', [0, GATING_FUNCTIONS[router]].includes(number('expert_gating_func') ?? 0)],
    // 0 and 1 are no factor, as is what is left out.
    [
      'expert_weights_scale',
      rule.scale !== undefined || [0, 1].includes(number('expert_weights_scale') ?? 0)
    ],
    ['expert_group_count', [0, 1].includes(number('expert_group_count') ?? 0)],
    ['expert_group_used_count', [0, 1].includes(number('expert_group_used_count') ?? 0)]
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
    shared:
      shared &&
      (number(ggufSharedKey(shared)) ?? ('size' in shared ? metadata.same(key('feed_forward_length')) : 0)),
    normalised: saysNormalised ? (flag ?? byDefault) : byDefault
  })
  // As llama.cpp has it, other layers without them are not of these architectures: their tensors would be missed.
  const first = typeof dense === 'object' ? (number(GGUF_FIRST_DENSE) ?? 0) : 0
  return layer => (layer < first ? undefined : spec)
}

function specOf(
  { shared: rule, bias, router = 'softmax', corrected, beside }: ExpertsRule,
  given: {
    count: number
    used: number
    size: number | undefined
    /** Its size, or of how many of the others it is; 0: there is none. */
    shared: number | undefined
    normalised: boolean
  }
): ReturnType<ExpertsOf> {
  const { count, used, size, shared = 0, normalised } = given
  const sharedSize = rule !== undefined && 'count' in rule ? shared * (size ?? 0) : shared
  return {
    experts: count,
    used,
    ...(size !== undefined && { size }),
    router,
    ...(bias && { bias }),
    ...(corrected && { corrected }),
    ...(normalised && { normalised }),
    ...(beside && { beside }),
    ...(sharedSize > 0 && { shared: { size: sharedSize, ...(rule?.gated && { gated: true as const }) } })
  }
}
