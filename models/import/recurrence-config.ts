import { z } from 'zod'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import { MAX_DECODER_LAYERS } from '../manifest-schema.ts'
import { type Recurrence, RecurrenceSchema } from '../recurrence-schema.ts'
import type { Architecture, RecurrenceRule } from './architectures/architecture.ts'
import { type GgufMetadata, keyOf } from './gguf-metadata.ts'

/** The recurrence of decoder layer `layer`, from 0; undefined where it attends. */
export type RecurrenceOf = (layer: number) => Recurrence | undefined

export const NO_RECURRENCE: RecurrenceOf = () => undefined

/** Where checkpoints have the numbers of each kind: in config.json, and in GGUF behind the architecture's name. */
const NUMBERS = {
  'gated-delta': {
    taps: { huggingFace: 'linear_conv_kernel_dim', gguf: 'ssm.conv_kernel' },
    keyHeads: { huggingFace: 'linear_num_key_heads', gguf: 'ssm.group_count' },
    valueHeads: { huggingFace: 'linear_num_value_heads', gguf: 'ssm.time_step_rank' },
    keySize: { huggingFace: 'linear_key_head_dim', gguf: 'ssm.state_size' },
    // GGUF has that of all heads together.
    valueSize: { huggingFace: 'linear_value_head_dim', gguf: 'ssm.inner_size' }
  },
  'short-convolution': { taps: { huggingFace: 'conv_L_cache', gguf: 'shortconv.l_cache' } },
  'state-space': {
    taps: { huggingFace: 'mamba_d_conv', gguf: 'ssm.conv_kernel' },
    heads: { huggingFace: 'mamba_n_heads', gguf: 'ssm.time_step_rank' },
    headSize: { huggingFace: 'mamba_d_head', gguf: 'ssm.inner_size' },
    groups: { huggingFace: 'mamba_n_groups', gguf: 'ssm.group_count' },
    stateSize: { huggingFace: 'mamba_d_state', gguf: 'ssm.state_size' }
  }
} as const

/** In GGUF the size of all heads together stands for that of one, of so many. */
const WHOLE = {
  'gated-delta': { size: 'valueSize', heads: 'valueHeads' },
  'short-convolution': undefined,
  'state-space': { size: 'headSize', heads: 'heads' }
} as const

const List = z.array(z.int().min(0)).max(MAX_DECODER_LAYERS)
const Interval = z.int().min(1).max(1024).nullish()

/** Keys of config.json by which an architecture has recurrences. */
export function recurrenceKeys({ recurrence: rule }: Architecture): string[] {
  if (rule === undefined) return []
  return [
    ...Object.keys(NUMBERS[rule.kind]).map(name => keyNamed(rule, name, 'huggingFace')),
    ...(rule.bias === undefined ? [] : [rule.bias]),
    ...[rule.attendsEvery, rule.attendsList].flatMap(key => key ?? [])
  ]
}

/**
 * What config.json says of recurrences.
 *
 * @throws {CheckpointError} naming a key that is missing or makes no sense.
 */
export function recurrenceOfConfig(
  file: string,
  config: Record<string, unknown> & { layer_types?: readonly string[] | null | undefined },
  { recurrence: rule, parts }: Architecture
): RecurrenceOf {
  if (rule === undefined) return NO_RECURRENCE
  const entries = Object.keys(NUMBERS[rule.kind]).map(name => [
    name,
    config[keyNamed(rule, name, 'huggingFace')]
  ])
  const hasBias = rule.bias !== undefined && (config[rule.bias] ?? true) === true
  const bias = rule.kind === 'state-space' && hasBias ? { bias: true } : {}
  const spec = specOf(file, rule, { ...Object.fromEntries(entries), ...bias }, name =>
    keyNamed(rule, name, 'huggingFace')
  )
  // Which layers have it, their parts say.
  if (parts !== undefined) return () => spec
  const types = config.layer_types ?? undefined
  if (types !== undefined) return layer => (types[layer] === rule.layerType ? spec : undefined)
  const list = rule.attendsList === undefined ? undefined : List.safeParse(config[rule.attendsList])
  if (list?.success === true) {
    const attending = list.data
    return layer => (attending.includes(layer) ? undefined : spec)
  }
  const every = rule.attendsEvery === undefined ? undefined : Interval.safeParse(config[rule.attendsEvery])
  if (every?.success !== true || typeof every.data !== 'number') {
    throw new CheckpointError(file, `layer_types: is missing, so which layers attend is not known`)
  }
  const interval = every.data
  return layer => ((layer + 1) % interval === 0 ? undefined : spec)
}

/** Keys of GGUF's metadata by which an architecture has recurrences. */
export function ggufRecurrenceKeys({ recurrence: rule }: Architecture): string[] {
  if (rule === undefined) return []
  return [
    ...Object.values(NUMBERS[rule.kind]).map(({ gguf }) => gguf),
    ...(rule.attendsEvery === undefined ? [] : [rule.attendsEvery])
  ]
}

/**
 * What a GGUF file says of recurrences: layers attend whose number of key and value heads is not 0, or every so many-th.
 *
 * @throws {CheckpointError} naming a key that is missing or makes no sense.
 */
export function recurrenceOfGguf(
  metadata: GgufMetadata,
  { recurrence: rule, parts }: Architecture
): RecurrenceOf {
  if (rule === undefined) return NO_RECURRENCE
  const { file } = metadata
  const key = (suffix: string) => keyOf(metadata, suffix)
  const numbers: Record<string, unknown> = Object.fromEntries(
    Object.entries(NUMBERS[rule.kind]).map(([name, { gguf }]) => [name, metadata.number(key(gguf))])
  )
  const whole = WHOLE[rule.kind]
  if (whole !== undefined) numbers[whole.size] = Number(numbers[whole.size]) / Number(numbers[whole.heads])
  const more = {
    ...(rule.kind === 'gated-delta' && rule.ggufByTurns && { keysByTurns: true }),
    ...(rule.kind === 'state-space' && rule.bias !== undefined && { bias: true })
  }
  const spec = specOf(file, rule, { ...numbers, ...more }, name => key(keyNamed(rule, name, 'gguf')))
  if (parts !== undefined) return () => spec
  const heads = metadata.perLayer(key('attention.head_count_kv'))
  if (heads !== undefined) return layer => (heads[layer] === 0 ? spec : undefined)
  if (rule.attendsEvery === undefined) {
    throw new CheckpointError(
      file,
      `metadata ${key('attention.head_count_kv')} does not say which layers attend`
    )
  }
  const every = metadata.number(key(rule.attendsEvery))
  if (!Number.isInteger(every) || every < 1) {
    throw new CheckpointError(file, `metadata ${key(rule.attendsEvery)} is ${every}`)
  }
  return layer => ((layer + 1) % every === 0 ? undefined : spec)
}

function keyNamed(rule: RecurrenceRule, name: string, format: 'huggingFace' | 'gguf'): string {
  const keys: Partial<Record<string, { huggingFace: string; gguf: string }>> = NUMBERS[rule.kind]
  const own = format === 'huggingFace' ? rule.keys?.[name] : undefined
  return own ?? keys[name]?.[format] ?? name
}

function specOf(
  file: string,
  { kind, groupNorm }: RecurrenceRule,
  numbers: Record<string, unknown>,
  keyOf: (name: string) => string
): Recurrence {
  const lacking = Object.keys(numbers).find(name => numbers[name] === undefined || numbers[name] === null)
  if (lacking !== undefined) throw new CheckpointError(file, `${keyOf(lacking)}: is missing`)
  // One head as is: value heads in turns, and keys of one head, are the same then.
  const apart = groupNorm === true && Number(numbers.groups) > 1
  const parsed = RecurrenceSchema.safeParse({ kind, ...plain(numbers), ...(apart && { groupNorm }) })
  if (parsed.success) return parsed.data
  const [issue] = parsed.error.issues
  const name = issue?.path.at(-1)
  const place = typeof name === 'string' ? `${keyOf(name)}: ` : ''
  throw new UnsupportedModelError(`${file}: ${place}${issue?.message}`)
}

/** Where each value head has a key head of its own, or all have the same, there is nothing by turns. */
function plain({ keysByTurns, ...numbers }: Record<string, unknown>): Record<string, unknown> {
  const isSame = numbers.keyHeads === numbers.valueHeads || numbers.keyHeads === 1
  return keysByTurns === true && !isSame ? { ...numbers, keysByTurns } : numbers
}
