import type { LayerProfile } from '../../api.ts'
import { HOP_OVERHEAD_MS } from '../../constants.ts'
import type { StepParts } from '../../plan/index.ts'
import type { ObservedStep } from '../pipeline/measured.ts'

/** A device's times of a model. A peer that never timed the model borrows the source's times, and is corrected apart. */
export interface Timed {
  peerId: string
  modelId: string
  borrowed: boolean
}

export interface ObservedStage extends Timed {
  /** Computed by this node, whose times need no check. */
  own: boolean
  /** The times that were expected of the device. */
  profile: LayerProfile
}

/** One answer: what a step should take by the uncorrected cost model, and what it took. */
export interface Observation {
  /** The plan's stages, in order. */
  stages: readonly ObservedStage[]
  expected: StepParts
  measured: ObservedStep
  /** Tokens were guessed ahead. */
  guessed?: boolean
  /** Sequences that shared a step, rounded. */
  batch: number
}

/** Answers that a correction is drawn from, and how long each counts. */
const SAMPLES = 5
const SAMPLE_TERM_MS = 10 * 60_000
/** The first steps of an answer say little of the others. */
const MIN_STEPS = 8
/** From a device that is 400 times as fast as the fastest known to one that is 4 times as fast, and hangs. */
const COMPUTE_FACTORS = [0.01, 1000] as const
/** What is beyond is nobody's network: event loops of busy devices take as long. */
const HOP_OVERHEADS_MS = [0, 10] as const
/** A batch shows how much slower a device is, but no more than this of how much faster. */
const LEAST_BATCHED_SHARE = 0.5

/**
 * The cost model's constants, corrected by what answers measured: how much longer than its profile says a device takes
 * for a stage (other work on it, its temperature, a longer context), in steps of one sequence and of several apart, and
 * what a hop costs beyond the wire. Each is the median of the last answers, with the start value as one more while there
 * are few, so that a single answer never moves a plan; what is old does not count, so that a device which was busy gets
 * another chance.
 *
 * How long a step took, and what this node's own part of it was, this node knows. What the others report only divides
 * the rest among them: what neither reported times nor links explain is shared among the peers alike.
 */
export class Corrections {
  readonly #factors = new Map<string, Recent>()
  /** The times that a device's factors are of. */
  readonly #profiles = new Map<string, LayerProfile>()
  readonly #hop = new Recent()
  readonly #now: () => number

  constructor(now: () => number) {
    this.#now = now
  }

  /** Factors for the profile's times of a device: those of one sequence, and of several. */
  computeFactors(timed: Timed): { single: number; batched: number } {
    const nowMs = this.#now()
    const single = this.#factors.get(keyOf(timed, 1))?.median(1, nowMs) ?? 1
    const batched = this.#factors.get(keyOf(timed, 2))?.median(single, nowMs) ?? single
    return { single, batched: Math.max(batched, LEAST_BATCHED_SHARE * single) }
  }

  /** The times that a device's factors are of, whatever it has said since; undefined while nothing recent is known. */
  profileOf(timed: Timed): LayerProfile | undefined {
    const nowMs = this.#now()
    const known = [1, 2].some(batch => this.#factors.get(keyOf(timed, batch))?.isKnown(nowMs))
    return known ? this.#profiles.get(deviceOf(timed)) : undefined
  }

  /** How many times its profile's times a device took for single sequences, once answers have agreed on it. */
  measuredFactor(timed: Timed): number | undefined {
    return this.#factors.get(keyOf(timed, 1))?.median(undefined, this.#now())
  }

  /** Encryption, framing and event loops of one hop, in ms. */
  get hopOverheadMs(): number {
    return this.#hop.median(HOP_OVERHEAD_MS, this.#now())
  }

  observe(observation: Observation): void {
    const { stages, expected, measured, batch } = observation
    const { steps, doubted, sequences, stepMs } = measured
    // Some steps of one and some of several are neither.
    if (steps + doubted < MIN_STEPS || (batch === 1 && sequences > 1)) return
    const told = steps >= MIN_STEPS && measured.stages.length === stages.length
    if (batch > 1 || observation.guessed === true) {
      // Several sequences, and guesses sent ahead, wait for each other, and what stands behind other steps on a link says
      // nothing of the hop.
      if (told)
        this.#learn(
          observation,
          measured.stages.map(({ computeMs }) => computeMs)
        )
      return
    }
    // Of a step whose times cannot be true only its length is known, and what this node should have taken of it.
    const spentMs = stages.map((timed, i) => {
      if (told) return measured.stages[i]!.computeMs + measured.stages[i]!.waitMs
      return timed.own ? this.computeFactors(timed).single * expected.stages[i]!.computeMs : 0
    })
    const hops = expected.linksMs.filter(ms => ms > 0).length
    const beyondMs = stepMs - sum(spentMs) - sum(expected.linksMs)
    const [, mostMs] = HOP_OVERHEADS_MS
    const unexplainedMs = Math.max(0, beyondMs - hops * (mostMs - HOP_OVERHEAD_MS))
    const peers = stages.filter(({ own }) => !own).length
    this.#learn(
      observation,
      spentMs.map((ms, i) => {
        if (stages[i]!.own) return told ? ms : undefined
        return ms + unexplainedMs / peers
      })
    )
    if (told) this.#hop.add(HOP_OVERHEAD_MS + beyondMs / hops, HOP_OVERHEADS_MS, this.#now())
  }

  /** @param measuredMs what each stage took of a step; undefined where that is not known */
  #learn({ stages, expected, batch }: Observation, measuredMs: readonly (number | undefined)[]): void {
    const nowMs = this.#now()
    const devices = new Map<string, { timed: ObservedStage; expectedMs: number; measuredMs: number }>()
    stages.forEach((timed, i) => {
      const ms = measuredMs[i]
      if (ms === undefined) return
      const key = keyOf(timed, batch)
      const sums = devices.get(key) ?? { timed, expectedMs: 0, measuredMs: 0 }
      sums.expectedMs += expected.stages[i]!.computeMs
      sums.measuredMs += ms
      devices.set(key, sums)
    })
    for (const [key, { timed, expectedMs, measuredMs }] of devices) {
      if (this.profileOf(timed) === undefined) this.#profiles.set(deviceOf(timed), timed.profile)
      const recent = this.#factors.get(key) ?? new Recent()
      this.#factors.set(key, recent)
      recent.add(measuredMs / expectedMs, COMPUTE_FACTORS, nowMs)
    }
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

  isKnown(nowMs: number): boolean {
    return this.#valuesAt(nowMs).length > 0
  }

  /** @param start what stands for a sample while there are few; undefined where there is none to take */
  median<S extends number | undefined>(start: S, nowMs: number): number | S {
    const values = this.#valuesAt(nowMs)
    if (values.length < 2) return start
    if (values.length === 2 && start !== undefined) values.push(start)
    values.sort((a, b) => a - b)
    const middle = values.length >> 1
    return values.length % 2 === 1 ? values[middle]! : (values[middle - 1]! + values[middle]!) / 2
  }

  #valuesAt(nowMs: number): number[] {
    return this.#samples.filter(({ atMs }) => nowMs - atMs < SAMPLE_TERM_MS).map(({ value }) => value)
  }
}

function deviceOf({ peerId, modelId, borrowed }: Timed): string {
  return `${peerId} ${modelId} ${borrowed}`
}

function keyOf(timed: Timed, batch: number): string {
  return `${deviceOf(timed)} ${batch > 1}`
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
