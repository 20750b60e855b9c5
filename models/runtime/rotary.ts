import type { Turning } from '../blocks.ts'
import type { RopeSpec } from '../manifest.ts'

/** Cosines and sines of rotary embedding, each (positions, rotated / 2), row-major. */
export interface RotaryTable {
  positions: number
  cos: Float32Array
  sin: Float32Array
}

/** The tables for positions [0, positions): cos and sin of position * frequency, computed in float64. */
export function rotaryTable(turning: Turning, positions: number): RotaryTable {
  const frequencies = rotaryFrequencies(turning)
  const magnitude = magnitudeOf(turning.rope)
  const cos = new Float32Array(positions * frequencies.length)
  const sin = new Float32Array(positions * frequencies.length)
  for (let position = 0, i = 0; position < positions; position++) {
    for (const frequency of frequencies) {
      cos[i] = magnitude * Math.cos(position * frequency)
      sin[i++] = magnitude * Math.sin(position * frequency)
    }
  }
  return { positions, cos, sin }
}

/** Radians a position for each of the rotated / 2 pairs: theta^(-2i / rotated), stretched as `scaling` says. */
export function rotaryFrequencies({ rope: { theta, scaling }, rotated }: Turning): number[] {
  const stretch = stretchOf({ theta, ...(scaling && { scaling }) }, rotated)
  return Array.from({ length: rotated / 2 }, (_, i) => stretch(theta ** ((-2 * i) / rotated), i))
}

function magnitudeOf({ scaling }: RopeSpec): number {
  return scaling?.type === 'yarn' || scaling?.type === 'divided' ? scaling.magnitude : 1
}

/**
 * What becomes of the frequency of pair `i`. The formulas are those of transformers' modeling_rope_utils
 * (`_compute_llama3_parameters`, `_compute_yarn_parameters`).
 */
function stretchOf({ theta, scaling }: RopeSpec, rotated: number): (frequency: number, i: number) => number {
  if (scaling === undefined) return frequency => frequency
  if (scaling.type === 'proportional') return (frequency, i) => (i < scaling.pairs ? frequency : 0)
  if (scaling.type === 'divided') return (frequency, i) => frequency / scaling.divisors[i]!
  const { factor } = scaling
  if (scaling.type === 'linear') return frequency => frequency / factor
  const blend = (keep: number, frequency: number) => keep * frequency + (1 - keep) * (frequency / factor)
  if (scaling.type === 'llama3') {
    // Wavelengths shorter than the original context / highFreqFactor stay, longer than / lowFreqFactor are stretched.
    const { lowFreqFactor, highFreqFactor, originalContextLength } = scaling
    return frequency => {
      const turns = (originalContextLength * frequency) / (2 * Math.PI)
      return blend(within((turns - lowFreqFactor) / (highFreqFactor - lowFreqFactor)), frequency)
    }
  }
  // The pair that turns so often within the original context.
  const pairOf = (turns: number) =>
    (rotated * Math.log(scaling.originalContextLength / (turns * 2 * Math.PI))) / (2 * Math.log(theta))
  const round = (end: (x: number) => number, x: number) => (scaling.unrounded === true ? x : end(x))
  const first = Math.max(0, round(Math.floor, pairOf(scaling.betaFast)))
  const last = Math.min(rotated - 1, round(Math.ceil, pairOf(scaling.betaSlow)))
  // As in transformers, a ramp without length is a step.
  const length = first === last ? 0.001 : last - first
  return (frequency, i) => blend(1 - within((i - first) / length), frequency)
}

function within(x: number): number {
  return Math.min(1, Math.max(0, x))
}
