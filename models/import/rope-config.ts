import { isDeepStrictEqual } from 'node:util'
import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import type { RopeSpec } from '../manifest.ts'

/** What config.json says of rotary embedding, in any of the places that transformers has had for it. */
export interface RopeKeys {
  rope_theta?: unknown
  rope_scaling?: unknown
  /** Transformers 5 has theta, scaling and the part of a head here. */
  rope_parameters?: unknown
  partial_rotary_factor?: unknown
}

type Scaling = NonNullable<RopeSpec['scaling']>

/** Numbers of each kind of scaling; all of them must be there, and none besides. */
const NUMBERS = {
  default: [],
  linear: ['factor'],
  llama3: ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings']
} as const

type Kind = keyof typeof NUMBERS

/** One of the two objects, read. */
interface RopeObject {
  theta: number | undefined
  scaling: Scaling | undefined
}

/**
 * Reads rotary embedding strictly: two places that differ, a kind of scaling that is not computed, and any number that
 * the kind has no use for are refused by name.
 *
 * @throws {UnsupportedModelError} for what is not computed; {CheckpointError} for what contradicts itself.
 */
export function ropeOf(file: string, config: RopeKeys, defaultTheta: number): RopeSpec {
  refusePartial(file, 'partial_rotary_factor', config.partial_rotary_factor)
  const outside = optionalNumber(file, 'rope_theta', config.rope_theta)
  const parameters = readObject(file, 'rope_parameters', config.rope_parameters)
  const older = readObject(file, 'rope_scaling', config.rope_scaling)
  if (
    parameters !== undefined &&
    older !== undefined &&
    !isDeepStrictEqual(parameters.scaling, older.scaling)
  ) {
    throw new CheckpointError(
      file,
      'rope_parameters and rope_scaling differ in how positions are scaled, and programs differ in which one they ' +
        'follow: take one of them out'
    )
  }
  const thetas = [outside, parameters?.theta, older?.theta].filter(theta => theta !== undefined)
  if (thetas.some(theta => theta !== thetas[0])) {
    throw new CheckpointError(file, `rope_theta is given as ${[...new Set(thetas)].join(' and as ')}`)
  }
  const scaling = parameters?.scaling ?? older?.scaling
  return { theta: thetas[0] ?? defaultTheta, ...(scaling && { scaling }) }
}

function readObject(file: string, place: string, value: unknown): RopeObject | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value !== 'object' || Array.isArray(value)) {
    throw new CheckpointError(file, `${place} is not an object`)
  }
  const entries = Object.entries(value).filter(([, entry]) => entry !== null)
  // Python takes an empty object for none.
  if (entries.length === 0) return undefined
  const {
    rope_type,
    type: olderName,
    rope_theta,
    partial_rotary_factor,
    ...rest
  } = Object.fromEntries(entries)
  const nested = Object.keys(rest).find(key => typeof rest[key] === 'object')
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
  const kind = rope_type ?? olderName ?? 'default'
  if (typeof kind !== 'string' || !Object.hasOwn(NUMBERS, kind)) {
    throw new UnsupportedModelError(
      `${file}: rope scaling ${quote(kind)} is not supported; supported are llama3 and linear`
    )
  }
  refusePartial(file, `${place}.partial_rotary_factor`, partial_rotary_factor)
  const theta = optionalNumber(file, `${place}.rope_theta`, rope_theta)
  return { theta, scaling: scalingOf(file, place, kind as Kind, rest) }
}

function scalingOf(
  file: string,
  place: string,
  kind: Kind,
  rest: Record<string, unknown>
): Scaling | undefined {
  const expected: readonly string[] = NUMBERS[kind]
  const strange = Object.keys(rest).find(key => !expected.includes(key))
  if (strange !== undefined) {
    throw new UnsupportedModelError(
      `${file}: ${place}.${strange.slice(0, 40)} is not supported with rope scaling ${kind}`
    )
  }
  const lacking = expected.find(key => rest[key] === undefined)
  if (lacking !== undefined)
    throw new CheckpointError(file, `${place}: rope scaling ${kind} lacks a ${lacking}`)
  const number = (key: string) => optionalNumber(file, `${place}.${key}`, rest[key])!
  if (kind === 'default') return undefined
  if (kind === 'linear') return { type: 'linear', factor: number('factor') }
  const scaling = {
    type: 'llama3' as const,
    factor: number('factor'),
    lowFreqFactor: number('low_freq_factor'),
    highFreqFactor: number('high_freq_factor'),
    originalContextLength: number('original_max_position_embeddings')
  }
  if (scaling.lowFreqFactor >= scaling.highFreqFactor) {
    throw new CheckpointError(file, `${place}: low_freq_factor is not below high_freq_factor`)
  }
  return scaling
}

function optionalNumber(file: string, key: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined
  if (typeof value === 'number' && value > 0 && value < 2 ** 40) return value
  throw new CheckpointError(file, `${key} is ${quote(value)}, not a number above 0`)
}

function refusePartial(file: string, key: string, value: unknown): void {
  if (value === undefined || value === null || value === 1) return
  throw new UnsupportedModelError(
    `${file}: ${key} ${quote(value)} is not supported: a part of each head is turned`
  )
}

function quote(value: unknown): string {
  return (JSON.stringify(value) ?? 'nothing').slice(0, 60)
}
