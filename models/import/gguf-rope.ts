import { CheckpointError, UnsupportedModelError } from '../errors.ts'
import type { GgufFile } from '../formats/gguf.ts'
import type { RopeSpec } from '../manifest.ts'
import { type GgufMetadata, keyOf } from './gguf-metadata.ts'
import { divided, yarn, yarnMagnitude } from './rope-scaling.ts'

/** How q and k are turned by a GGUF file. */
export interface GgufRope {
  rope: RopeSpec
  /** Positions up to which that is right. */
  contextLength: number
  /** The context before it was stretched. */
  originalContextLength: number
  /** What architectures with latent vectors multiply scores with. */
  scores?: number
  notices: string[]
}

/** What files keep of frequencies: divisors for texts of any length, or LongRoPE's for short ones. */
export interface RopeFactors {
  any?: Float32Array
  short?: Float32Array
}

/** Tensors that rotary embedding is derived from, and that are no weights. */
export const ROPE_TENSORS = ['rope_freqs.weight', 'rope_factors_short.weight', 'rope_factors_long.weight']

/** Llama 3's files have rope_freqs.weight, those of Phi both sets of LongRoPE. */
export async function ropeFactors(file: GgufFile, rotated: number): Promise<RopeFactors> {
  const read = async (name: string) => {
    const tensor = file.tensors.get(name)
    if (tensor === undefined) return undefined
    if (tensor.dims.length !== 1 || tensor.dims[0] !== rotated / 2) {
      throw new CheckpointError(file.path, `${name} has shape (${tensor.dims.join(', ')})`)
    }
    const bytes = new Uint8Array(tensor.bytes)
    await file.read(tensor, 0, bytes)
    return tensor.type.floats(bytes, rotated / 2)
  }
  const [any, short, long] = await Promise.all(ROPE_TENSORS.map(read))
  if ((short === undefined) !== (long === undefined)) {
    throw new CheckpointError(file.path, 'has one of rope_factors_short.weight and rope_factors_long.weight')
  }
  return { ...(any && { any }), ...(short && { short }) }
}

/**
 * How positions are scaled, by the rules of llama.cpp (llama-model.cpp): a type that is left out is linear, the factor's
 * older key is read where the newer one is missing, 0 stands for none, and what rope_freqs.weight says comes on top.
 */
export function ropeOf(
  metadata: GgufMetadata,
  given: {
    rope: RopeSpec
    rotated: number
    factors: RopeFactors
    contextLength: number
    /** The ends of YaRN's ramp are not rounded. */
    unrounded: boolean
    /** Its heads are made of latent vectors. */
    latent: boolean
  }
): GgufRope {
  const { file } = metadata
  const key = (suffix: string) => keyOf(metadata, `rope.scaling.${suffix}`)
  const number = (suffix: string) => metadata.optionalNumber(key(suffix)) || undefined
  const { rope, factors, contextLength } = given
  const originalContextLength = number('original_context_length') ?? contextLength
  const attention = number('attn_factor') ?? 1
  const plain = { rope, contextLength, originalContextLength, notices: [] }
  if (factors.short !== undefined) {
    const scaled = divided(file, {
      short: [...factors.short],
      pairs: given.rotated / 2,
      factor: 1,
      magnitude: attention,
      originalContextLength,
      maxPositions: contextLength
    })
    return { ...plain, ...scaled, rope: withScaling(rope, scaled.scaling) }
  }
  const type = metadata.optionalText(key('type')) ?? 'linear'
  if (type === 'yarn') {
    if (factors.any !== undefined) {
      throw new UnsupportedModelError(
        `${file}: rope scaling yarn together with rope_freqs.weight is not supported`
      )
    }
    const scaled = yarn({
      numbers: { ...yarnNumbers(metadata, given.latent), attn_factor: attention },
      originalContextLength,
      truncate: !given.unrounded,
      maxPositions: contextLength
    })
    return { ...plain, ...scaled, rope: withScaling(rope, scaled.scaling) }
  }
  if (type !== 'linear' && type !== 'none') {
    throw new UnsupportedModelError(
      `${file}: rope scaling ${JSON.stringify(type.slice(0, 40))} is not supported`
    )
  }
  if (attention !== 1) {
    throw new UnsupportedModelError(`${file}: ${key('attn_factor')} ${attention} is not supported`)
  }
  return { ...plain, rope: withScaling(rope, linear(metadata, type, factors.any, rope.theta)) }
}

function withScaling(rope: RopeSpec, scaling: RopeSpec['scaling'] | undefined): RopeSpec {
  return scaling === undefined ? rope : { ...rope, scaling }
}

/** YaRN's numbers under the names of config.json. */
function yarnNumbers(metadata: GgufMetadata, latent: boolean): Partial<Record<string, number>> {
  const { file } = metadata
  const key = (suffix: string) => keyOf(metadata, `rope.scaling.${suffix}`)
  const number = (suffix: string) => metadata.optionalNumber(key(suffix)) || undefined
  for (const suffix of ['yarn_attn_factor', 'yarn_ext_factor']) {
    const value = number(suffix) ?? 1
    if (value !== 1) throw new UnsupportedModelError(`${file}: ${key(suffix)} ${value} is not supported`)
  }
  const factor = number('factor') ?? 1
  if (factor < 0) throw new CheckpointError(file, `${key('factor')} is ${factor}`)
  const [fast, slow, ofAll] = ['yarn_beta_fast', 'yarn_beta_slow', 'yarn_log_multiplier'].map(number)
  return {
    factor,
    ...(fast !== undefined && { beta_fast: fast }),
    ...(slow !== undefined && { beta_slow: slow }),
    // llama.cpp keeps mscale_all_dim here, and takes mscale for 1. Of DeepSeek it is the tenth of it, and mscale the same.
    ...(ofAll !== undefined &&
      (latent
        ? { mscale: 10 * ofAll, mscale_all_dim: 10 * ofAll }
        : { attention_factor: yarnMagnitude(factor) / yarnMagnitude(factor, ofAll) }))
  }
}

/** A factor for all frequencies, or what rope_freqs.weight has. */
function linear(
  metadata: GgufMetadata,
  type: string,
  divisors: Float32Array | undefined,
  theta: number
): RopeSpec['scaling'] | undefined {
  const { file } = metadata
  const key = (suffix: string) => keyOf(metadata, suffix)
  const given =
    metadata.optionalNumber(key('rope.scaling.factor')) ?? metadata.optionalNumber(key('rope.scale_linear'))
  const factor = type === 'none' || !given ? 1 : given
  if (factor < 0) throw new CheckpointError(file, `${key('rope.scaling.factor')} is ${factor}`)
  const scaling = divisors && (proportional(divisors) ?? scalingOfFactors(file, divisors, theta))
  if (factor === 1) return scaling
  if (scaling !== undefined && scaling.type !== 'linear') {
    throw new UnsupportedModelError(
      `${file}: ${key('rope.scaling.factor')} ${factor} together with rope_freqs.weight is not supported`
    )
  }
  return { type: 'linear', factor: factor * (scaling?.factor ?? 1) }
}

/** From so much on the converter means that a pair does not turn: it writes 1e30. */
const STILL = 1e20

/** Pairs that turn, and behind them pairs that stand still. */
function proportional(
  divisors: Float32Array
): Extract<RopeSpec['scaling'], { type: 'proportional' }> | undefined {
  const pairs = divisors.findIndex(divisor => divisor !== 1)
  if (pairs < 1 || !divisors.subarray(pairs).every(divisor => divisor >= STILL)) return undefined
  return { type: 'proportional', pairs }
}

/**
 * GGUF keeps Llama 3's scaling as the divisors of the frequencies that it leads to. Its parameters are found again by
 * trying: the converter writes Llama 3.1's own low and high factors of 1 and 4.
 */
export function scalingOfFactors(
  file: string,
  divisors: Float32Array,
  theta: number
): Extract<RopeSpec['scaling'], { type: 'linear' | 'llama3' }> | undefined {
  const factor = Math.max(...divisors)
  if (divisors.every(divisor => divisor === 1)) return undefined
  if (divisors.every(divisor => divisor === factor)) return { type: 'linear', factor }
  for (let originalContextLength = 16; originalContextLength <= 2 ** 20; originalContextLength *= 2) {
    const scaling = {
      type: 'llama3',
      factor,
      lowFreqFactor: 1,
      highFreqFactor: 4,
      originalContextLength
    } as const
    const expected = llama3Divisors(scaling, divisors.length, theta)
    if (expected.every((value, i) => Math.abs(value - divisors[i]!) <= 1e-4 * value)) return scaling
  }
  throw new UnsupportedModelError(
    `${file}: the frequencies of rope_freqs.weight are not those of Llama 3's scaling`
  )
}

/** transformers, modeling_rope_utils.py, _compute_llama3_parameters. */
function llama3Divisors(
  scaling: { factor: number; lowFreqFactor: number; highFreqFactor: number; originalContextLength: number },
  count: number,
  theta: number
): number[] {
  const { factor, lowFreqFactor: low, highFreqFactor: high, originalContextLength: context } = scaling
  return Array.from({ length: count }, (_, i) => {
    const wavelength = 2 * Math.PI * theta ** (i / count)
    if (wavelength < context / high) return 1
    if (wavelength > context / low) return factor
    const smooth = (context / wavelength - low) / (high - low)
    return 1 / ((1 - smooth) / factor + smooth)
  })
}
