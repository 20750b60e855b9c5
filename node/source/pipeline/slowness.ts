import type { StageTiming } from '../../../protocols/stage/frame.ts'

/** Steps that are looked at together: single ones vary. */
const WINDOW_STEPS = 12
/** A step that takes so many times what it took, and so much longer, is no jitter. */
const SLOW_FACTOR = 4
const SLOW_EXCESS_MS = 50

/** A stage that holds up every step since some time ago. */
export interface SlowStage {
  /** Index in the plan. */
  stage: number
  /** What grew is the way to it from the stage before it, or the last one: it may be that one's doing. */
  way: boolean
  /** Mean time of a step at first, and lately. */
  beforeMs: number
  recentMs: number
}

/** The steps that so many sessions shared. */
interface Window {
  /** Mean times of the first whole window: of computing, stage by stage, then of the ways to them. */
  first: number[] | undefined
  sums: number[]
  steps: number
  /** Slow in the window before: one pause makes no slow stage. */
  suspected: number | undefined
}

/**
 * Watches the decode steps of one deployment for a stage that turns slow: another program took its processor, it runs
 * hot, its link got worse. A stage's time is its computing and the way to it, without waiting for its turn; compared
 * with the first steps that as many sessions shared, so neither a wrong prediction nor a clock that is off matters.
 */
export class Slowness {
  readonly #windows = new Map<number, Window>()

  /**
   * Takes one step in; once in a while says which stage has turned slow, if one has.
   *
   * @param timings of all stages
   * @param receivedAtMs when its tokens came back, in ms since the epoch
   * @param sequences sessions that it drew a token for
   */
  add(timings: readonly StageTiming[], receivedAtMs: number, sequences: number): SlowStage | undefined {
    const window = this.#windowOf(sequences, timings.length)
    timings.forEach(({ arrivedAtMs, computeMs }, i) => {
      // The way to the source's first stage is the token's return.
      const endMs = i === 0 ? receivedAtMs : arrivedAtMs
      window.sums[i]! += computeMs
      window.sums[timings.length + i]! += endMs - timings.at(i - 1)!.sentAtMs
    })
    window.steps++
    if (window.steps < WINDOW_STEPS) return undefined
    const recent = window.sums.map(ms => ms / window.steps)
    window.sums.fill(0)
    window.steps = 0
    if (window.first === undefined) {
      window.first = recent
      return undefined
    }
    const slow = slowestOf(window.first, recent)
    const again = slow !== undefined && slow.stage === window.suspected
    window.suspected = slow?.stage
    return again ? slow : undefined
  }

  #windowOf(sequences: number, stages: number): Window {
    let window = this.#windows.get(sequences)
    // Steps of a deployment pass as many stages each, unless a peer lies: nothing that it has said counts then.
    if (window?.sums.length !== 2 * stages) {
      window = { first: undefined, sums: Array(2 * stages).fill(0), steps: 0, suspected: undefined }
      this.#windows.set(sequences, window)
    }
    return window
  }
}

function slowestOf(first: readonly number[], recent: readonly number[]): SlowStage | undefined {
  const beforeMs = sum(first)
  const recentMs = sum(recent)
  if (recentMs < SLOW_FACTOR * beforeMs || recentMs < beforeMs + SLOW_EXCESS_MS) return undefined
  const stages = first.length / 2
  const excess = recent.map((ms, i) => ms - first[i]!)
  const largest = excess.indexOf(Math.max(...excess))
  return { stage: largest % stages, way: largest >= stages, beforeMs, recentMs }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
