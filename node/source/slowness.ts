import type { MeasuredStep } from './measured.ts'

/** Steps that are looked at together: single ones vary. */
const WINDOW_STEPS = 12
/** A step that takes so many times what it took, and so much longer, is no jitter. */
const SLOW_FACTOR = 4
const SLOW_EXCESS_MS = 50

/** A stage that holds up every step since some time ago. */
export interface SlowStage {
  /** Index in the plan. */
  stage: number
  /** Mean time of a step when the answer began, and lately. */
  beforeMs: number
  recentMs: number
}

/**
 * Watches the steps of one answer on one placement for a stage that turns slow: another program took its processor, it
 * runs hot, its link got worse. A stage's time is its computing and the way to it; compared with the first
 * steps of the same answer, so neither a wrong prediction nor a clock that is off matters.
 */
export class Slowness {
  #first: number[] | undefined
  #sums: number[] = []
  #steps = 0
  /** Slow in the window before: one pause makes no slow stage. */
  #suspected: number | undefined

  /** Looks at an answer's means so far; once in a while says which stage has turned slow, if one has. */
  check(measured: MeasuredStep): SlowStage | undefined {
    if (measured.steps - this.#steps < WINDOW_STEPS) return undefined
    const sums = measured.stages.map(({ computeMs }, i) => {
      // The way to stage i is link i - 1; to the source's first stage it is the token's return.
      const wayMs = measured.linksMs.at(i - 1) ?? 0
      return (computeMs + wayMs) * measured.steps
    })
    const count = measured.steps - this.#steps
    const window = sums.map((sum, i) => (sum - (this.#sums[i] ?? 0)) / count)
    this.#sums = sums
    this.#steps = measured.steps
    if (this.#first === undefined) {
      this.#first = window
      return undefined
    }
    const slow = slowestOf(this.#first, window)
    const again = slow !== undefined && slow.stage === this.#suspected
    this.#suspected = slow?.stage
    return again ? slow : undefined
  }
}

function slowestOf(first: readonly number[], recent: readonly number[]): SlowStage | undefined {
  const beforeMs = sum(first)
  const recentMs = sum(recent)
  if (recentMs < SLOW_FACTOR * beforeMs || recentMs < beforeMs + SLOW_EXCESS_MS) return undefined
  const excess = recent.map((ms, i) => ms - first[i]!)
  return { stage: excess.indexOf(Math.max(...excess)), beforeMs, recentMs }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
