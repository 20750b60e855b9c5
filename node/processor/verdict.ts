import { formatBytes } from '../units.ts'
import type { GpuTimes, GpuVerdict } from './gpu-file.ts'

/** What is timed: a step of one token, of one token of each of eight sequences, and a chunk of a prompt. */
export type Work = 'decode' | 'batch' | 'prefill'

/** What trying a GPU has found. */
export interface Findings {
  times: GpuTimes[]
  /** The largest difference to the CPU, relative to the largest number. */
  difference?: number
  /** Whether rows are the same to the bit in whatever steps and company. */
  keepsBits?: boolean
  allocatableBytes?: number
  /** Why it could not be tried, or not to the end. */
  failure?: string
  /** Its process ended by itself, or was killed as it hung. */
  crashed?: boolean
}

/** So many times faster a GPU has to be, for prompts and for tokens: what is nearly as fast is not worth a driver. */
export const LEAST_GAIN = 1.2
/**
 * Kernels of a CPU round inputs of products to 8 bits, block by block, those of a GPU in other blocks or not at all: one layer
 * differed by up to 0.045 of the largest number. What differs by more is not the same computation.
 */
export const MOST_DIFFERENCE = 0.06

/** Less than this is no room for a stage: such a GPU would only take the memory of the CPU out of the mesh. */
export const LEAST_GPU_BYTES = 256 * 1024 * 1024

/** Whether stages are to be computed on the GPU that was tried, and why. @param decoderLayers of the model */
export function judge(
  { times, difference, failure, allocatableBytes }: Findings,
  decoderLayers: number
): GpuVerdict {
  if (failure !== undefined) return { use: 'cpu', reason: `the GPU could not be tried: ${failure}` }
  if (difference !== undefined && !(difference <= MOST_DIFFERENCE)) {
    const percent = Number.isFinite(difference) ? `by ${(100 * difference).toFixed(1)} %` : 'in no number'
    return { use: 'cpu', reason: `the GPU computes something else than the CPU: they differ ${percent}` }
  }
  const decode = gainOf(times, 'decode', decoderLayers)
  const prefill = gainOf(times, 'prefill', decoderLayers)
  const said = [
    `${inTimes(decode)} for tokens`,
    ...(prefill === undefined ? [] : [`${inTimes(prefill)} for prompts`])
  ]
  const reason = `the GPU is ${said.join(' and ')}`
  if (allocatableBytes !== undefined && allocatableBytes < LEAST_GPU_BYTES) {
    return { use: 'cpu', reason: `${reason}, but gives only ${formatBytes(allocatableBytes)} of memory` }
  }
  const gains = [decode, prefill]
  if (gains.every(gain => gain !== undefined && gain >= LEAST_GAIN)) return { use: 'gpu', reason }
  return { use: 'cpu', reason: `${reason}, and has to be ${LEAST_GAIN} times faster for both` }
}

/** The smallest of what was timed by how much the GPU is faster: 0.5 where it takes twice as long. */
export function worstRatio(times: readonly GpuTimes[]): number {
  return Math.min(...times.map(({ cpuMs, gpuMs }) => cpuMs / gpuMs))
}

/** How many times faster the GPU does a kind of work with all layers; undefined where it was not timed. */
function gainOf(times: readonly GpuTimes[], work: Work, decoderLayers: number): number | undefined {
  const some = times.filter(time => time.work === work)
  if (some.length === 0) return undefined
  const sum = (ms: (time: GpuTimes) => number) =>
    some.reduce((total, time) => total + (time.kind === 'decoder' ? decoderLayers : 1) * ms(time), 0)
  return sum(({ cpuMs }) => cpuMs) / sum(({ gpuMs }) => gpuMs)
}

function inTimes(gain: number | undefined): string {
  if (gain === undefined) return 'of unknown speed'
  return gain >= 1 ? `${gain.toFixed(1)} times faster` : `${(1 / gain).toFixed(1)} times slower`
}
