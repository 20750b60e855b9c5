import { CheckpointError } from '../errors.ts'
import type { RopeSpec } from '../manifest.ts'

/** A scaling, and up to how many positions a model has it. */
export interface Scaled {
  scaling: RopeSpec['scaling'] | undefined
  contextLength: number
  /** What classes with latent vectors multiply scores with, beside what is in cosines and sines; absent: 1. */
  scores?: number
  /** What its user should know. */
  notices: string[]
}

/** What YaRN is for by its authors, and what programs take where a checkpoint does not say it. */
const BETA_FAST = 32
const BETA_SLOW = 1

/** The factor of attention by YaRN's paper, `get_mscale` of transformers. */
export function yarnMagnitude(factor: number, mscale = 1): number {
  return factor <= 1 ? 1 : 0.1 * mscale * Math.log(factor) + 1
}

/**
 * YaRN by transformers' `_compute_yarn_parameters`. `attn_factor`, which transformers does not know, is multiplied in as
 * vLLM and llama.cpp do it: DeepSeek-R1-0528-Qwen3-8B has one that makes the whole 1.
 */
export function yarn({
  numbers,
  originalContextLength,
  truncate,
  maxPositions
}: {
  numbers: Partial<Record<string, number>>
  originalContextLength: number
  truncate: boolean
  maxPositions: number
}): Scaled {
  const { factor = 1, mscale, mscale_all_dim: ofAll, attn_factor: times = 1 } = numbers
  const magnitude =
    numbers.attention_factor ??
    (mscale !== undefined && ofAll !== undefined
      ? yarnMagnitude(factor, mscale) / yarnMagnitude(factor, ofAll)
      : yarnMagnitude(factor))
  const contextLength = Math.max(maxPositions, Math.floor(factor * originalContextLength))
  return {
    scaling: {
      type: 'yarn',
      factor,
      betaFast: numbers.beta_fast ?? BETA_FAST,
      betaSlow: numbers.beta_slow ?? BETA_SLOW,
      originalContextLength,
      magnitude: times * magnitude,
      ...(truncate ? {} : { unrounded: true as const })
    },
    contextLength,
    scores: ofAll === undefined ? 1 : yarnMagnitude(factor, ofAll) ** 2,
    notices:
      contextLength > maxPositions
        ? [
            `rope scaling yarn gives the model a context of ${contextLength} tokens instead of ${maxPositions}`
          ]
        : []
  }
}

/**
 * LongRoPE by transformers' `_compute_longrope_parameters`, which has one set of divisors for texts up to the original
 * context and one for longer ones: a text that grows beyond it would turn otherwise from one token to the next. Only the
 * first set is computed, up to the context that it is for.
 */
export function divided(
  file: string,
  {
    short,
    pairs,
    factor,
    magnitude,
    originalContextLength,
    maxPositions
  }: {
    short: readonly number[]
    pairs: number
    factor: number
    magnitude: number | undefined
    originalContextLength: number
    maxPositions: number
  }
): Scaled {
  if (short.length !== pairs) {
    throw new CheckpointError(
      file,
      `rope scaling longrope has ${short.length} short factors, but a head has ${pairs} pairs`
    )
  }
  const byRule = factor <= 1 ? 1 : Math.sqrt(1 + Math.log(factor) / Math.log(originalContextLength))
  const contextLength = Math.min(originalContextLength, maxPositions)
  return {
    scaling: { type: 'divided', divisors: [...short], magnitude: magnitude ?? byRule },
    contextLength,
    notices:
      contextLength < maxPositions
        ? [
            `rope scaling longrope turns texts of more than ${contextLength} tokens otherwise: the model is taken with ` +
              `that context, not with ${maxPositions}`
          ]
        : []
  }
}
