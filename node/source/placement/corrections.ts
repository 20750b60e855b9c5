import { HOP_OVERHEAD_MS } from '../../constants.ts'
import type { StepParts } from '../../plan/index.ts'
import type { MeasuredStep } from '../pipeline/measured.ts'

/** A device's times of a model. A peer that never timed the model borrows the source's times, and is corrected apart. */
export interface Timed {
  peerId: string
  modelId: string
  borrowed: boolean
}

/** One answer: what a step should take by the uncorrected cost model, and what it took. */
export interface Observation {
  /** The plan's stages, in order. */
  stages: readonly Timed[]
  expected: StepParts
  measured: MeasuredStep
  /** Sequences that shared a step, rounded. */
  batch: number
}

/** Answers that a correction is drawn from, and how long each counts. */
const SAMPLES = 5
const SAMPLE_TERM_MS = 10 * 60_000
/** The first steps of an answer say little of the others. */
const MIN_STEPS = 8
const COMPUTE_FACTORS = [0.1, 20] as const
const HOP_OVERHEADS_MS = [0, 50] as const

/**
 * The cost model's constants, corrected by what answers measured: how much longer than its profile says a device takes
 * for a stage (other work on it, its temperature, a longer context), in steps of one sequence and of several apart, and
 * what a hop costs beyond the wire. Each is the median of the last answers, with the start value as one more while there
 * are few, so that a single answer never moves a plan; what is old does not count, so that a device which was busy gets
 * another chance.
 */
export class Corrections {
  readonly #factors = new Map<string, Recent>()
  readonly #hop = new Recent()
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  /** Factors for the profile's times of a device: those of one sequence, and of several. */
  computeFactors(timed: Timed): { single: number; batched: number } {
    const nowMs = this.#now()
    const single = this.#factors.get(keyOf(timed, 1))?.median(1, nowMs) ?? 1
    return { single, batched: this.#factors.get(keyOf(timed, 2))?.median(single, nowMs) ?? single }
  }

  /** Encryption, framing and event loops of one hop, in ms. */
  get hopOverheadMs(): number {
    return this.#hop.median(HOP_OVERHEAD_MS, this.#now())
  }

  observe({ stages, expected, measured, batch }: Observation): void {
    // Some steps of one and some of several are neither.
    if (measured.steps < MIN_STEPS || (batch === 1 && measured.sequences > 1)) return
    if (measured.stages.length !== stages.length) return
    const devices = new Map<string, { expectedMs: number; measuredMs: number }>()
    stages.forEach((timed, i) => {
      const key = keyOf(timed, batch)
      const sums = devices.get(key) ?? { expectedMs: 0, measuredMs: 0 }
      const { computeMs, waitMs } = measured.stages[i]!
      sums.expectedMs += expected.stages[i]!.computeMs
      // Several sequences wait for each other.
      sums.measuredMs += batch === 1 ? computeMs + waitMs : computeMs
      devices.set(key, sums)
    })
    for (const [key, { expectedMs, measuredMs }] of devices) {
      const recent = this.#factors.get(key) ?? new Recent()
      this.#factors.set(key, recent)
      recent.add(measuredMs / expectedMs, COMPUTE_FACTORS, this.#now())
    }
    // What stands behind other steps on a link says nothing of the hop.
    if (batch > 1) return
    const hops = expected.linksMs.filter(ms => ms > 0).length
    // Their sum alone: it began and ended on one clock.
    const beyondMs = sum(measured.linksMs) - sum(expected.linksMs)
    this.#hop.add(HOP_OVERHEAD_MS + beyondMs / hops, HOP_OVERHEADS_MS, this.#now())
  }
}

/** The last values of one correction. */
class Recent {
  #samples: { value: number; atMs: number }[] = []

  add(value: number, [min, max]: readonly [number, number], atMs: number): void {
    // Nothing was expected, or there was no hop.
    if (!Number.isFinite(value)) return
    this.#samples.push({ value: Math.min(max, Math.max(min, value)), atMs })
    if (this.#samples.length > SAMPLES) this.#samples.shift()
  }

  median(start: number, nowMs: number): number {
    const values = this.#samples.filter(({ atMs }) => nowMs - atMs < SAMPLE_TERM_MS).map(({ value }) => value)
    if (values.length < 2) return start
    if (values.length === 2) values.push(start)
    values.sort((a, b) => a - b)
    const middle = values.length >> 1
    return values.length % 2 === 1 ? values[middle]! : (values[middle - 1]! + values[middle]!) / 2
  }
}

function keyOf({ peerId, modelId, borrowed }: Timed, batch: number): string {
  return `${peerId} ${modelId} ${borrowed} ${batch > 1}`
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
