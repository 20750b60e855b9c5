import { z } from 'zod'
import type { ExpertsSpec } from '../block-schema.ts'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { MAX_DECODER_LAYERS } from '../manifest-schema.ts'
import type { Architecture, ExpertsRule, GroupsRule } from './architectures/architecture.ts'
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
const LayerTypes = z.array(z.enum(['dense', 'sparse']))
const LastLayer = z
  .int()
  .min(-1)
  .max(2 ** 40)
  .nullish()

/** Keys of config.json by which an architecture has experts. */
export function expertKeys({ experts }: Architecture): string[] {
  if (experts === undefined) return []
  const { enabled, count, used, size, shared, normalised, dense, groups } = experts
  const numbers = [
    count,
    used,
    size,
    shared && sharedKey(shared),
    typeof dense === 'object' ? dense.first : undefined,
    groups?.count,
    groups?.used
  ]
  return [
    ...(groups === undefined ? [] : [groups.method.huggingFace]),
    ...(typeof dense === 'object' ? [dense.types, dense.last].filter(key => key !== undefined) : []),
    ...numbers.flatMap(key => (key === undefined ? [] : [key.huggingFace, ...(key.also ? [key.also] : [])])),
    ...(typeof enabled === 'object' ? [enabled.huggingFace] : []),
    ...(typeof normalised === 'object' ? [normalised.huggingFace] : []),
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
  const { enabled } = rule
  if (typeof enabled === 'object' && read(Flag, enabled.huggingFace) !== true) return NO_EXPERTS
  if (enabled === 'count' && config[rule.count.huggingFace] === 0) return NO_EXPERTS
  const number = ({ huggingFace, default: byDefault, also }: ExpertsRule['count'], schema = Count) => {
    const found = read(sameOf(schema), huggingFace) ?? byDefault
    const other = also === undefined ? found : (read(sameOf(schema), also) ?? found)
    if (other === found) return found
    throw new CheckpointError(file, `${huggingFace} is ${found}, but ${also} is ${other}`)
  }
  const { normalised, dense, groups } = rule
  const size = rule.size && number(rule.size)
  const used = number(rule.used)
  const spec = specOf(rule, {
    count: number(rule.count),
    used,
    size,
    shared: rule.shared && number(sharedKey(rule.shared), 'size' in rule.shared ? Count : FewOrNone),
    normalised:
      typeof normalised === 'object'
        ? (read(Flag, normalised.huggingFace) ?? normalised.default)
        : isNormalised(normalised, used),
    groups:
      groups && isGrouped(file, config, groups.method)
        ? { count: number(groups.count), used: number(groups.used) }
        : undefined
  })
  if (dense === undefined) return () => spec
  if (dense !== 'sparse-step') {
    const first = number(dense.first, FewOrNone)
    const types = dense.types === undefined ? undefined : read(LayerTypes.nullish(), dense.types)
    const last = (dense.last === undefined ? undefined : read(LastLayer, dense.last)) ?? -1
    const end = last === -1 ? Number.POSITIVE_INFINITY : last + 1
    if (types === undefined || types === null) {
      return layer => (layer < first || layer >= end ? undefined : spec)
    }
    if (types.length !== config.num_hidden_layers) {
      throw new CheckpointError(file, `${dense.types} has ${types.length} entries, not one a layer`)
    }
    const stated = config[dense.first.huggingFace] ?? undefined
    if (stated !== undefined && types.some((type, layer) => (type === 'dense') !== layer < first)) {
      throw new CheckpointError(file, `${dense.first.huggingFace} and ${dense.types} differ`)
    }
    return layer => (types[layer] === 'dense' ? undefined : spec)
  }
  const step = read(Sparse.shape.decoder_sparse_step, 'decoder_sparse_step') ?? 1
  const without = new Set(read(Sparse.shape.mlp_only_layers, 'mlp_only_layers') ?? [])
  return layer => (without.has(layer) || (layer + 1) % step !== 0 ? undefined : spec)
}

/** A number, or a list that has it for each layer, of which none may have another. */
function sameOf(schema: z.ZodType<number>) {
  const list = z
    .array(schema)
    .min(1)
    .max(MAX_DECODER_LAYERS)
    .refine(numbers => numbers.every(number => number === numbers[0]), {
      error: 'differs from layer to layer, which is not supported'
    })
  return z.union([schema, list.transform(numbers => numbers[0]!)]).nullish()
}

function isNormalised(normalised: boolean | 'of-several', used: number): boolean {
  return normalised === 'of-several' ? used > 1 : normalised
}

/** Whether the key that says so has experts in groups. */
function isGrouped(
  file: string,
  config: Record<string, unknown>,
  { huggingFace, grouped, plain }: GroupsRule['method']
): boolean {
  const given = config[huggingFace] ?? plain ?? grouped
  if (given === grouped || (plain !== undefined && given === plain)) return given === grouped
  const known = plain === undefined ? grouped : `${plain}, ${grouped}`
  throw new UnsupportedModelError(
    `${file}: ${huggingFace} ${JSON.stringify(given).slice(0, 40)} is not supported; known are ${known}`
  )
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
    ...(size ? [size.gguf ?? GGUF_SIZE] : []),
    ...(shared ? [ggufSharedKey(shared)] : []),
    ...(typeof dense === 'object' ? [GGUF_FIRST_DENSE] : [])
  ]
}

const GGUF_SIZE = 'expert_feed_forward_length'
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
export function expertsOfGguf(
  metadata: GgufMetadata,
  { experts: own, name }: Architecture,
  tensors: readonly string[]
): ExpertsOf {
  if (own === undefined) return NO_EXPERTS
  const rule = own.routerByGguf ? routedAsSaid(metadata, own, tensors) : own
  const key = (suffix: string) => keyOf(metadata, suffix)
  const number = (suffix: string) => metadata.optionalNumber(key(suffix))
  if (rule.enabled && !number('expert_count')) return NO_EXPERTS
  const { router = 'softmax', shared, dense } = rule
  const flag = metadata.optionalFlag(key('expert_weights_norm'))
  const used = metadata.number(key('expert_used_count'))
  const byDefault =
    typeof rule.normalised === 'object' ? rule.normalised.gguf : isNormalised(rule.normalised, used)
  const saysNormalised = typeof rule.normalised === 'object' && rule.normalised.ggufSays === true
  const isOne = (suffix: string) => [0, 1].includes(number(suffix) ?? 0)
  const others: [suffix: string, allowed: boolean][] = [
    ['expert_weights_norm', saysNormalised || (flag ?? byDefault) === byDefault],
    ['expert_gating_func', [0, GATING_FUNCTIONS[router]].includes(number('expert_gating_func') ?? 0)],
    // 0 and 1 are no factor, as is what is left out.
    [
      'expert_weights_scale',
      rule.scale !== undefined || [0, 1].includes(number('expert_weights_scale') ?? 0)
    ],
    ['expert_group_count', rule.groups !== undefined || isOne('expert_group_count')],
    ['expert_group_used_count', rule.groups !== undefined || isOne('expert_group_used_count')]
  ]
  const [strange] = others.find(([, allowed]) => !allowed) ?? []
  if (strange !== undefined) {
    throw new UnsupportedModelError(
      `${metadata.file}: metadata ${key(strange)} is not what ${name} has, and not supported`
    )
  }
  const spec = specOf(rule, {
    count: metadata.number(key('expert_count')),
    used,
    size: rule.size && metadata.number(key(rule.size.gguf ?? GGUF_SIZE)),
    shared:
      shared &&
      (number(ggufSharedKey(shared)) ?? ('size' in shared ? metadata.same(key('feed_forward_length')) : 0)),
    normalised: saysNormalised ? (flag ?? byDefault) : byDefault,
    groups: rule.groups && {
      count: number('expert_group_count') || 1,
      used: number('expert_group_used_count') || 1
    }
  })
  // As llama.cpp has it, other layers without them are not of these architectures: their tensors would be missed.
  const first = typeof dense === 'object' ? (number(GGUF_FIRST_DENSE) ?? 0) : 0
  return layer => (layer < first ? undefined : spec)
}

/**
 * The rule with the router that a file says. Those of a logistic function are DeepSeek-V3's, whose groups are as good as their two
 * best; the older ones' are as good as their best, though llama.cpp adds two for all. Where a file says nothing, those with a
 * correction are of the former, as GLM-4.7-Flash's first files are.
 */
function routedAsSaid(metadata: GgufMetadata, rule: ExpertsRule, tensors: readonly string[]): ExpertsRule {
  const key = keyOf(metadata, 'expert_gating_func')
  const corrected = tensors.some(name => name.endsWith('.exp_probs_b.bias'))
  const said = metadata.optionalNumber(key) || GATING_FUNCTIONS[corrected ? 'sigmoid' : 'softmax']
  const router = (['softmax', 'sigmoid'] as const).find(one => GATING_FUNCTIONS[one] === said)
  if (router === undefined) {
    throw new UnsupportedModelError(`${metadata.file}: metadata ${key} ${said} is not supported`)
  }
  const { corrected: _, groups, ...others } = rule
  return {
    ...others,
    router,
    ...(corrected && { corrected }),
    ...(groups && { groups: { ...groups, score: router === 'sigmoid' ? 'best-two' : 'highest' } })
  }
}

function specOf(
  { shared: rule, bias, router = 'softmax', corrected, beside, groups: groupsRule }: ExpertsRule,
  given: {
    count: number
    used: number
    size: number | undefined
    /** Its size, or of how many of the others it is; 0: there is none. */
    shared: number | undefined
    normalised: boolean
    groups: { count: number; used: number } | undefined
  }
): ReturnType<ExpertsOf> {
  const { count, used, size, shared = 0, normalised, groups } = given
  const sharedSize = rule !== undefined && 'count' in rule ? shared * (size ?? 0) : shared
  return {
    experts: count,
    used,
    ...(size !== undefined && { size }),
    router,
    ...(bias && { bias }),
    ...(corrected && { corrected }),
    ...(normalised && { normalised }),
    // Where all groups are looked at, there are none.
    ...(groupsRule &&
      groups &&
      groups.count !== groups.used && { groups: { ...groups, score: groupsRule.score } }),
    ...(beside && { beside }),
    ...(sharedSize > 0 && { shared: { size: sharedSize, ...(rule?.gated && { gated: true as const }) } })
  }
}
