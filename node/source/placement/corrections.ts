import type { LayerProfile } from '../../api.ts'
import { HOP_OVERHEAD_MS } from '../../constants.ts'
import type { StepParts } from '../../plan/index.ts'
import { medianOf } from '../median.ts'
import type { ObservedStep } from '../pipeline/measured.ts'
import type { StageTurns } from './claims.ts'
import { isSamePlace } from './places.ts'
import { NOTHING_SETTLED, type SettledTimes } from './settled-times.ts'

/** A device's times of a model. A peer that never timed the model borrows the source's times, and is corrected apart. */
export interface Timed {
  peerId: string
  /** Which of its processors, where several have memory of their own. */
  processor?: string | undefined
  modelId: string
  borrowed: boolean
  /** Answers are computed to the bit, which takes other kernels where a sequence is alone. @default false */
  exact?: boolean
}

export interface ObservedStage extends Timed {
  /** Computed by this node, whose times need no check. */
  own: boolean
  /** The times that were expected of the device. */
  profile: LayerProfile
  /** What it has timed that steps take beside layers; undefined: nothing. */
  turns?: StageTurns | undefined
  /** Its processors are held to a share, of which it needs little for few layers: they run at full speed, and rest. @default false */
  rests?: boolean
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

/** One step at a time, or several that share devices and links: each of several sequences, or several behind each other. */
export type Work = 'alone' | 'shared'
/** What stages take beside their layers in shared steps is less where one has all layers: no frames pass. */
type Turn = Work | 'whole'

/** Answers that a correction is drawn from, and how long each counts. */
const SAMPLES = 5
const SAMPLE_TERM_MS = 10 * 60_000
/** The first steps of an answer say little of the others. */
export const MIN_STEPS = 8
/** The factors of a device that is 400 times as fast as the fastest known, and of one that is 4 times as fast, and hangs. */
const COMPUTE_FACTORS = [0.01, 1000] as const
/** What is beyond is nobody's network: event loops of busy devices take as long. */
const HOP_OVERHEADS_MS = [0, 10] as const
/** What is beyond is no hand-over between threads: it counts as computing, which grows with the layers. */
const TURNS_MS = [0, 20] as const
/** A stage that rests says no less than this of its device: one with more layers would take as much of the long run. */
const LEAST_RESTING_SHARE = 0.8
/** A batch shows how much slower a device is, but no more than this of how much faster. */
const LEAST_BATCHED_SHARE = 0.5
/** A step of a lone exact sequence takes so many times one of others, as far as no answer says (`npm run bench:exact`). */
const EXACT_FACTOR = 1.24
/** Steps under way at once, in the mean: up to the first one is alone, from the second on they share the devices. */
export const ALONE_UP_TO = 1.1
const SHARED_FROM = 1.5

/**
 * The cost model's constants, corrected by what answers measured: how much longer than its profile says a device takes
 * for a stage's layers (other work on it, its temperature), what a stage takes there beside them (threads, its turn), in
 * steps of one sequence and in those that share devices apart, and what a hop costs beyond the wire. Each is the median of
 * the last answers, with the start value as one more while there are few, so that a single answer never moves a plan;
 * what is old does not count, so that a device which was busy gets another chance. Start values are those on which earlier
 * answers settled, as far as these are kept (`SettledTimes`), else the cost model's own.
 *
 * How long a step took, and what this node's own part of it was, this node knows. What the others report only divides
 * the rest among them: what neither reported times nor links explain is shared among the peers alike.
 */
export class Corrections {
  readonly #factors = new Map<string, Recent>()
  readonly #turns: Record<Turn, Map<string, Recent>> = {
    alone: new Map(),
    shared: new Map(),
    whole: new Map()
  }
  /** The times that a processor's factors are of. */
  readonly #profiles = new Map<string, LayerProfile>()
  readonly #hop = new Recent()
  readonly #now: () => number
  readonly #settled: SettledTimes

  /** @param settled what earlier answers settled on, and where these are told to */
  constructor(now: () => number, settled: SettledTimes = NOTHING_SETTLED) {
    this.#now = now
    this.#settled = settled
  }

  /**
   * Factors for the profile's times of a device: those of one sequence, and of several. A lone exact sequence has a factor of
   * its own, which begins where that of others is; batches are the same to both.
   *
   * @param profile the times that they are for; what was settled of others says nothing of these
   */
  computeFactors(timed: Timed, profile?: LayerProfile): { single: number; batched: number } {
    const nowMs = this.#now()
    const settled = this.#settled.of(timed, profile)
    const plain = this.#singleFactor({ ...timed, exact: false }, settled?.single, nowMs)
    const sharedStart = settled?.batched ?? plain
    const shared = this.#factors.get(keyOf(timed, 'shared'))?.median(sharedStart, nowMs) ?? sharedStart
    const batched = Math.max(shared, LEAST_BATCHED_SHARE * plain)
    return { single: timed.exact ? this.#singleFactor(timed, settled?.single, nowMs) : plain, batched }
  }

  /** What is known of the other kind of lone answers is where this one begins. */
  #singleFactor(timed: Timed, settled: number | undefined, nowMs: number): number {
    const other = this.#factors.get(keyOf({ ...timed, exact: !timed.exact }, 'alone'))
    const known = other?.median(undefined, nowMs)
    const plain = timed.exact ? known : known && known / EXACT_FACTOR
    const start = (plain ?? settled ?? 1) * (timed.exact ? EXACT_FACTOR : 1)
    return this.#factors.get(keyOf(timed, 'alone'))?.median(start, nowMs) ?? start
  }

  /**
   * What a stage takes on a device beside its layers, in ms: in steps one at a time, in those that share devices, and in these
   * where the stage has all layers. Of a device that no answer has taught it is what the device itself has timed, else what
   * answers have taught of the others: it is no better than these for being unknown.
   *
   * @param said what the device has timed of itself
   */
  turnsMs(
    timed: Timed,
    profile?: LayerProfile,
    said?: StageTurns
  ): { single: number; batched: number; whole: number } {
    const nowMs = this.#now()
    const settled = this.#settled.of(timed, profile)
    const alone = this.#turns.alone.get(deviceOf(timed))
    const besideMs = (ms: number | undefined) => ms && settled && (1 - settled.share) * ms
    const kept = settled && {
      single: settled.singleTurnMs + (besideMs(said?.turnMs) ?? 0),
      batched: settled.batchedTurnMs + (besideMs(framedMs(said)) ?? 0),
      whole: settled.wholeTurnMs + (besideMs(said?.sharedTurnMs) ?? 0)
    }
    const start = kept?.single ?? said?.turnMs ?? this.#usualTurnMs('alone') ?? 0
    const single = alone?.median(start, nowMs) ?? start
    const usual = alone?.isKnown(nowMs) === true ? undefined : this.#usualTurnMs('shared')
    const sharedStart = kept?.batched ?? framedMs(said) ?? usual ?? single
    const batched = this.#turns.shared.get(deviceOf(timed))?.median(sharedStart, nowMs) ?? sharedStart
    // No more than with frames, so that what answers have taught of these counts against what the device says.
    const wholeStart = Math.min(batched, kept?.whole ?? said?.sharedTurnMs ?? batched)
    const whole = this.#turns.whole.get(deviceOf(timed))?.median(wholeStart, nowMs) ?? wholeStart
    return { single, batched, whole }
  }

  /** What a stage takes beside its layers on the devices that answers have taught, in the median; undefined while there is none. */
  #usualTurnMs(work: Work): number | undefined {
    const nowMs = this.#now()
    const known = [...this.#turns[work].values()].flatMap(turns => turns.median(undefined, nowMs) ?? [])
    return medianOf(known) ?? this.#settled.usualTurnsMs?.[work]
  }

  /** The times that a device's factors are of, whatever it has said since; undefined while nothing recent is known. */
  profileOf(timed: Timed): LayerProfile | undefined {
    const nowMs = this.#now()
    const known = (['alone', 'shared'] as const).some(work =>
      [false, true].some(exact => this.#factors.get(keyOf({ ...timed, exact }, work))?.isKnown(nowMs))
    )
    return known ? this.#profiles.get(processorOf(timed)) : undefined
  }

  /** How many times its profile's times a device took for single sequences, once answers have agreed on it. */
  measuredFactor(timed: Timed): number | undefined {
    const of = (exact: boolean) =>
      this.#factors.get(keyOf({ ...timed, exact }, 'alone'))?.median(undefined, this.#now())
    const exact = of(true)
    return of(false) ?? (exact && exact / EXACT_FACTOR)
  }

  /** Encryption, framing and event loops of one hop, in ms. */
  get hopOverheadMs(): number {
    return this.#hop.median(this.#settled.hopOverheadMs ?? HOP_OVERHEAD_MS, this.#now())
  }

  observe(observation: Observation): void {
    const { stages, expected, measured, batch, guessed = false } = observation
    const { steps, doubted, sequences, stepMs, underWay = 1 } = measured
    const work: Work = batch > 1 || (!guessed && underWay >= SHARED_FROM) ? 'shared' : 'alone'
    // Some steps of one and some of several are neither.
    const isMixed = work === 'alone' && (sequences > 1 || (!guessed && underWay > ALONE_UP_TO))
    if (steps + doubted < MIN_STEPS || isMixed) return
    const told = steps >= MIN_STEPS && measured.stages.length === stages.length
    if (work === 'shared' || guessed) {
      // Several sequences, and guesses sent ahead, wait for each other, and what stands behind other steps on a link says
      // nothing of the hop.
      if (!told) return
      const computeMs = measured.stages.map(stage => stage.computeMs)
      this.#learn(observation, work, computeMs)
      if (!guessed) this.#learnSharedTurns(observation)
      this.#settle(observation)
      return
    }
    // Of a step whose times cannot be true only its length is known, and what this node should have taken of it.
    const besideMs = stages.map((timed, i) => {
      if (!told) return this.turnsMs(timed, timed.profile, timed.turns).single
      return Math.min(Math.max(measured.stages[i]!.waitMs, TURNS_MS[0]), TURNS_MS[1])
    })
    const computedMs = stages.map((timed, i) => {
      if (told) return measured.stages[i]!.computeMs + measured.stages[i]!.waitMs - besideMs[i]!
      return timed.own
        ? this.computeFactors(timed, timed.profile).single * expected.stages[i]!.computeMs
        : -besideMs[i]!
    })
    const hops = expected.linksMs.filter((ms, i) => ms > 0 && isHop(stages, i)).length
    const beyondMs = stepMs - sum(computedMs) - sum(besideMs) - sum(expected.linksMs)
    const [, mostMs] = HOP_OVERHEADS_MS
    const unexplainedMs = Math.max(0, beyondMs - hops * (mostMs - HOP_OVERHEAD_MS))
    const peers = stages.filter(({ own }) => !own).length
    this.#learn(
      observation,
      work,
      computedMs.map((ms, i) => {
        if (stages[i]!.own) return told ? ms : undefined
        return Math.max(0, ms + unexplainedMs / peers)
      })
    )
    if (told) {
      this.#learnTurns(observation, work, besideMs)
      this.#hop.add(HOP_OVERHEAD_MS + beyondMs / hops, HOP_OVERHEADS_MS, this.#now())
    }
    this.#settle(observation)
  }

  /**
   * What a stage takes beside its layers while steps follow each other is no more than it usually waits, and no more than its
   * processor has left between two of them: the one that is busiest has just that, and the others wait for nobody.
   */
  #learnSharedTurns(observation: Observation): void {
    const { stages, measured } = observation
    const betweenMs = measured.stepMs / (measured.underWay ?? 1)
    const { usualWaitsMs = measured.stages.map(({ waitMs }) => waitMs) } = measured
    const besideMs = stages.map(stage => {
      const isOwn = (_: unknown, i: number) => isSamePlace(stages[i]!, stage)
      const own = measured.stages.filter(isOwn)
      const leftMs = betweenMs - sum(own.map(({ computeMs }) => computeMs))
      return Math.max(0, Math.min(sum(usualWaitsMs.filter(isOwn)), leftMs)) / own.length
    })
    this.#learnTurns(observation, stages.length === 1 ? 'whole' : 'shared', besideMs)
  }

  #learnTurns({ stages }: Observation, turn: Turn, besideMs: readonly number[]): void {
    const devices = new Map<string, number[]>()
    stages.forEach((timed, i) => {
      const key = deviceOf(timed)
      devices.set(key, [...(devices.get(key) ?? []), besideMs[i]!])
    })
    for (const [key, ms] of devices)
      recentOf(this.#turns[turn], key).add(sum(ms) / ms.length, TURNS_MS, this.#now())
  }

  /** @param measuredMs what the layers of each stage took of a step; undefined where that is not known */
  #learn({ stages, expected }: Observation, work: Work, measuredMs: readonly (number | undefined)[]): void {
    const nowMs = this.#now()
    const devices = new Map<string, { timed: ObservedStage; expectedMs: number; measuredMs: number }>()
    stages.forEach((timed, i) => {
      const ms = measuredMs[i]
      if (ms === undefined) return
      const key = keyOf(timed, work)
      const sums = devices.get(key) ?? { timed, expectedMs: 0, measuredMs: 0 }
      sums.expectedMs += expected.stages[i]!.computeMs
      sums.measuredMs += ms
      devices.set(key, sums)
    })
    for (const [key, { timed, expectedMs, measuredMs }] of devices) {
      if (this.profileOf(timed) === undefined) this.#profiles.set(processorOf(timed), timed.profile)
      const least = timed.rests === true ? LEAST_RESTING_SHARE : 0
      recentOf(this.#factors, key).add(Math.max(least, measuredMs / expectedMs), COMPUTE_FACTORS, nowMs)
    }
  }

  /** Tells what is known now to what keeps it. */
  #settle({ stages }: Observation): void {
    this.#settled.settle(
      stages.map(timed => {
        const { single, batched } = this.computeFactors({ ...timed, exact: false }, timed.profile)
        const turns = this.turnsMs(timed, timed.profile, timed.turns)
        const turnsMs = { singleTurnMs: turns.single, batchedTurnMs: turns.batched, wholeTurnMs: turns.whole }
        const times = { single, batched, ...turnsMs }
        return { timed, profile: timed.profile, times }
      }),
      this.hopOverheadMs
    )
  }
}

/** Whether what a stage hands on leaves its device; what the last one does goes to the first one. */
function isHop(stages: readonly Timed[], at: number): boolean {
  return stages[at]?.peerId !== stages[(at + 1) % stages.length]?.peerId
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
    return medianOf(values)!
  }

  #valuesAt(nowMs: number): number[] {
    return this.#samples.filter(({ atMs }) => nowMs - atMs < SAMPLE_TERM_MS).map(({ value }) => value)
  }
}

function recentOf(all: Map<string, Recent>, key: string): Recent {
  const recent = all.get(key) ?? new Recent()
  all.set(key, recent)
  return recent
}

/** What a shared step takes one of several stages beside its layers, as its device says. */
function framedMs(said: StageTurns | undefined): number | undefined {
  return said && said.sharedTurnMs + (said.frameMs ?? 0)
}

/** What stages wait for beside their layers is the device's, whichever of its processors computes. */
function deviceOf({ peerId, modelId, borrowed }: Timed): string {
  return `${peerId} ${modelId} ${borrowed}`
}

function processorOf(timed: Timed): string {
  return timed.processor === undefined ? deviceOf(timed) : `${deviceOf(timed)} ${timed.processor}`
}

function keyOf(timed: Timed, work: Work): string {
  return `${processorOf(timed)} ${work === 'alone' && timed.exact ? 'exact' : work}`
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
