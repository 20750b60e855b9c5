import type { FrameRow, StageTiming } from '../../../protocols/stage/frame.ts'

/** Steps that are looked at together: single ones vary. */
const WINDOW_STEPS = 12
/** A step that takes so many times what it took, and so much longer, is no jitter. */
const SLOW_FACTOR = 4
const SLOW_EXCESS_MS = 50
/** Contexts up to this, in tokens, are alike; beyond, each doubling of the context is looked at apart. */
const SHORT_CONTEXT_TOKENS = 256

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

/**
 * Mean times of a window: of computing, stage by stage, then of the ways to them, of which only the sum means something
 * by itself; and what the sum of all may be.
 */
interface Baseline {
  partsMs: number[]
  totalMs: number
}

/** The steps that so many sessions shared, with so much context. */
interface Window {
  /** What later ones are compared with. */
  first: Baseline | undefined
  sums: number[]
  steps: number
  /** Slow in the window before: one pause makes no slow stage. */
  suspected: number | undefined
}

/**
 * Watches the decode steps of one deployment for a stage that turns slow: another program took its processor, it runs
 * hot, its link got worse. A stage's time is its computing and the way to it, without waiting for its turn; compared
 * with the first steps that as many sessions shared at a like context, so neither a wrong prediction nor a clock that is
 * off matters, nor that attention takes longer the longer the context is.
 */
export class Slowness {
  /** By sessions that share a step, and doublings of a short context. */
  readonly #windows = new Map<number, Window[]>()

  /**
   * Takes one step in; once in a while says which stage has turned slow, if one has.
   *
   * @param timings of all stages
   * @param receivedAtMs when its tokens came back, in ms since the epoch
   * @param rows of the sessions that it drew a token for
   */
  add(
    timings: readonly StageTiming[],
    receivedAtMs: number,
    rows: readonly Pick<FrameRow, 'position'>[]
  ): SlowStage | undefined {
    const contextTokens = sum(rows.map(({ position }) => position)) / rows.length
    const doublings = Math.ceil(Math.log2(Math.max(1, contextTokens / SHORT_CONTEXT_TOKENS)))
    const windows = this.#windowsOf(rows.length, timings.length)
    windows[doublings] ??= {
      first: undefined,
      sums: Array(2 * timings.length).fill(0),
      steps: 0,
      suspected: undefined
    }
    const window = windows[doublings]
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
      window.first = baselineOf(recent, windows, doublings)
      return undefined
    }
    const slow = slowestOf(window.first, recent)
    const again = slow !== undefined && slow.stage === window.suspected
    window.suspected = slow?.stage
    return again ? slow : undefined
  }

  #windowsOf(sequences: number, stages: number): Window[] {
    const known = this.#windows.get(sequences)
    // Steps of a deployment pass as many stages each, unless a peer lies: nothing that it has said counts then.
    if (known?.every(({ sums }) => sums.length === 2 * stages)) return known
    const windows: Window[] = []
    this.#windows.set(sequences, windows)
    return windows
  }
}

/**
 * The first window at a context, unless that was slow already: twice the context takes at most twice the time. Clocks
 * that are off leave only a window's sum to be compared so.
 */
function baselineOf(recent: number[], windows: readonly Window[], doublings: number): Baseline {
  const own = { partsMs: recent, totalMs: sum(recent) }
  const below = windows.slice(0, doublings).findLastIndex(window => window?.first !== undefined)
  const shorter = windows[below]?.first
  if (shorter === undefined) return own
  const totalMs = 2 ** (doublings - below) * shorter.totalMs
  return totalMs < own.totalMs ? { partsMs: shorter.partsMs, totalMs } : own
}

function slowestOf({ partsMs, totalMs }: Baseline, recent: readonly number[]): SlowStage | undefined {
  const recentMs = sum(recent)
  if (recentMs < SLOW_FACTOR * totalMs || recentMs < totalMs + SLOW_EXCESS_MS) return undefined
  const stages = partsMs.length / 2
  const excess = recent.map((ms, i) => ms - partsMs[i]!)
  const largest = excess.indexOf(Math.max(...excess))
  return { stage: largest % stages, way: largest >= stages, beforeMs: totalMs, recentMs }
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
