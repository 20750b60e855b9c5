import type { ModelShape, RopeSpec } from '../manifest.ts'

/** Cosines and sines of rotary embedding, each (positions, headSize / 2), row-major. */
export interface RotaryTable {
  positions: number
  cos: Float32Array
  sin: Float32Array
}

/** The tables for positions [0, positions): cos and sin of position * frequency, computed in float64. */
export function rotaryTable({ headSize, rope }: ModelShape, positions: number): RotaryTable {
  const frequencies = rotaryFrequencies(headSize, rope)
  const cos = new Float32Array(positions * frequencies.length)
  const sin = new Float32Array(positions * frequencies.length)
  for (let position = 0, i = 0; position < positions; position++) {
    for (const frequency of frequencies) {
      cos[i] = Math.cos(position * frequency)
      sin[i++] = Math.sin(position * frequency)
    }
  }
  return { positions, cos, sin }
}

/**
 * Radians a position for each of the headSize / 2 pairs: theta^(-2i / headSize), stretched as the checkpoint's
 * `rope_scaling` says. `llama3` is transformers' modeling_rope_utils `_compute_llama3_parameters`: wavelengths shorter
 * than the original context / highFreqFactor stay, longer than / lowFreqFactor are stretched by `factor`, those between
 * are blended.
 */
export function rotaryFrequencies(headSize: number, { theta, scaling }: RopeSpec): number[] {
  return Array.from({ length: headSize / 2 }, (_, i) => {
    const frequency = theta ** ((-2 * i) / headSize)
    if (scaling === undefined) return frequency
    const stretched = frequency / scaling.factor
    if (scaling.type === 'linear') return stretched
    const { lowFreqFactor, highFreqFactor, originalContextLength } = scaling
    const turns = (originalContextLength * frequency) / (2 * Math.PI)
    const keep = Math.min(1, Math.max(0, (turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)))
    return keep * frequency + (1 - keep) * stretched
  })
}
