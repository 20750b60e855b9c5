/**
 * What speculation gives to one sequence. The source sends guesses down the pipeline before the token before them is back, a
 * frame each, up to `window` of them at once; the first wrong guess is seen when its frame is back, and what was sent
 * behind it is dropped.
 */
import { linkBetween, occupiedMs, priceStep, stageMs, transferBytes, transfersOf } from './cost.ts'
import type { Problem, Segment, Speculation } from './problem.ts'
import { usefulGuesses } from './useful-guesses.ts'

/** One thing that a frame does on its way: a device computes, or a link carries it. */
interface Visit {
  readonly occupiedMs: number
  /** After the device or link is free again, before the frame is at the next one. */
  readonly delayMs: number
}

/** A placement as frames that follow each other see it. */
export interface Way {
  /** Those from the source and back to it, in order. */
  readonly visits: readonly Visit[]
  /** What the busiest device or link is busy with one frame, whose visits may be several. */
  readonly busiestMs: number
}

/** Runs whose ends are looked at, in windows: then they repeat themselves. */
const WINDOWS = 4
const ROUNDING = 1e-9
const MOST_FRAMES = 32

/**
 * Mean time between tokens, in ms, of one sequence.
 *
 * Right guesses are counted from a token that is known on: R of them with probability (1 - a) a^R. Behind them comes one
 * token more, the one that nobody guessed, so a run gives R + 1 tokens, 1 / (1 - a) in the mean, and it takes until frame R
 * is back. Frames are back `busiestMs` apart, but each waits for the one whose place in the window it takes:
 *
 *     back(R) = stepMs + (R mod W) busiestMs + floor(R / W) max(stepMs, W busiestMs)
 *
 * whose mean over R is in closed form. What is still being computed for a wrong guess then holds up the next run.
 *
 * A source that makes its window by itself rounds what it measures, which is a little more or less each time: between two windows
 * the mean lies between theirs, so that no prediction jumps where the times of two placements hardly differ.
 */
export function speculatedMs(
  way: Way,
  { acceptance, window }: Pick<Speculation, 'acceptance' | 'window'>
): number {
  if (window !== undefined) return withWindow(way, acceptance, window)
  const wide = widthOf(way, acceptance)
  const narrower = Math.floor(wide)
  const ms = withWindow(way, acceptance, narrower)
  return narrower === wide ? ms : ms + (wide - narrower) * (withWindow(way, acceptance, narrower + 1) - ms)
}

function withWindow(way: Way, acceptance: number, window: number): number {
  const { visits, busiestMs } = way
  const stepMs = alone(visits)
  const roundMs = Math.max(stepMs, window * busiestMs)
  if (acceptance >= 1) return roundMs / window
  const wholeWindow = acceptance ** window
  const rounds = wholeWindow / (1 - wholeWindow)
  const within = acceptance / (1 - acceptance) - window * rounds
  const runMs = stepMs + within * busiestMs + rounds * roundMs
  return (1 - acceptance) * (runMs + heldUpMs(way, { acceptance, window }))
}

/**
 * Frames that a source has under way by itself: as many as the busiest device or link has done with until the first one is back,
 * so that a wrong guess is in nobody's way, and none that holds too seldom (`node/source/pipeline/window-size.ts`).
 */
export function windowOf(way: Way, acceptance: number): number {
  return Math.round(widthOf(way, acceptance))
}

/** The same before it is rounded. */
function widthOf({ visits, busiestMs }: Way, acceptance: number): number {
  const fitting = busiestMs > 0 ? alone(visits) / busiestMs : MOST_FRAMES
  return Math.max(1, Math.min(fitting, 1 + usefulGuesses(acceptance), MOST_FRAMES))
}

/** The time from the source and back, with nothing in the way. */
function alone(visits: readonly Visit[]): number {
  return visits.reduce((sum, { occupiedMs, delayMs }) => sum + occupiedMs + delayMs, 0)
}

/** What the first frame of a run waits in the mean for frames of the run before it that were sent in vain, and have begun. */
function heldUpMs({ visits }: Way, { acceptance, window }: { acceptance: number; window: number }): number {
  if (window === 1) return 0
  const ends = WINDOWS * window
  const frames = framesOf(visits, ends + window - 1, window)
  let heldMs = 0
  let weights = 0
  for (let right = 0; right < ends; right++) {
    const weight = acceptance ** right
    heldMs += weight * waitedMs(visits, frames.slice(right, right + window))
    weights += weight
  }
  return heldMs / weights
}

/** When a frame has done with each visit; the last entry is when it is back. */
type Left = readonly number[]

/** One frame behind the other, so many at once. */
function framesOf(visits: readonly Visit[], count: number, window: number): Left[] {
  const frames: Left[] = []
  for (let n = 0; n < count; n++) {
    let nowMs = frames[n - window]?.at(-1) ?? 0
    const left = visits.map(({ occupiedMs, delayMs }, i) => {
      const doneMs = Math.max(nowMs, frames[n - 1]?.[i] ?? 0) + occupiedMs
      nowMs = doneMs + delayMs
      return doneMs
    })
    frames.push([...left, nowMs])
  }
  return frames
}

/** What a frame that starts when the first of `frames` is back waits for the others: who has begun one ends it. */
function waitedMs(visits: readonly Visit[], [seen, ...stale]: readonly Left[]): number {
  const startMs = seen!.at(-1)!
  let nowMs = startMs
  visits.forEach(({ occupiedMs, delayMs }, i) => {
    // Sums of equal times differ in their last bits.
    const begunMs = nowMs * (1 - ROUNDING)
    const begun = stale.find(left => begunMs > left[i]! - occupiedMs && nowMs < left[i]!)
    nowMs = (begun?.[i] ?? nowMs) + occupiedMs + delayMs
  })
  return nowMs - startMs - alone(visits)
}

/** The way of frames of one token through a placement; what a guess takes comes before the source's stage. */
export function wayOf(problem: Problem, segments: readonly Segment[], draftMs: number): Way {
  const transfers = transfersOf(problem, segments)
  const visits = segments.flatMap((segment, n): Visit[] => {
    const guessMs = n === 0 ? draftMs : 0
    const computes = { occupiedMs: stageMs(problem, segment, 1) + guessMs, delayMs: 0 }
    const transfer = transfers.find(({ layer }) => layer === segment.end - 1)
    if (transfer === undefined) return [computes]
    const link = linkBetween(problem, transfer.from, transfer.to)
    const bytes = transferBytes(problem, transfer, 1)
    return [computes, { occupiedMs: occupiedMs(link, bytes), delayMs: link.delayMs }]
  })
  const own = segments.filter(({ device }) => device === segments[0]?.device)
  const ownMs = own.reduce((sum, segment) => sum + stageMs(problem, segment, 1), draftMs)
  return { visits, busiestMs: Math.max(ownMs, priceStep(problem, segments, 1).busiestMs) }
}

/**
 * What a token takes one sequence with the workload's speculation; where that is no faster the source does without. Undefined
 * where the workload has none.
 */
export function speculatedTpotMs(problem: Problem, segments: readonly Segment[]): number | undefined {
  const { speculation } = problem.workload
  if (speculation === undefined) return undefined
  const { stepMs } = priceStep(problem, segments, 1)
  return Math.min(stepMs, speculatedMs(wayOf(problem, segments, speculation.draftMs), speculation))
}
