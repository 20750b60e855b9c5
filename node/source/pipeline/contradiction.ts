import type { StageTiming } from '../../../protocols/stage/frame.ts'

/** What rounding of the wire's times, and clocks that are adjusted meanwhile, may be apart. */
const SLACK_MS = 1

/**
 * Why the times that came back with a step cannot be true; undefined where they can. The stages write them one after the
 * other, so whoever had the step in hand may have written all before its own.
 *
 * @param own what the first stage, this node's own, took for it
 * @param receivedAtMs when its tokens came back, in ms since the epoch
 */
export function contradictionIn(
  timings: readonly StageTiming[],
  own: StageTiming,
  receivedAtMs: number
): string | undefined {
  const [first] = timings
  const same = (a: number, b: number) => Math.abs(a - b) <= SLACK_MS
  const asSent =
    first !== undefined &&
    same(first.arrivedAtMs, own.arrivedAtMs) &&
    same(first.sentAtMs, own.sentAtMs) &&
    same(first.computeMs, own.computeMs)
  if (!asSent) return 'what this node itself took has been changed on the way'
  let spentMs = 0
  for (const { arrivedAtMs, sentAtMs, computeMs } of timings) {
    const spanMs = sentAtMs - arrivedAtMs
    if (!(computeMs >= 0 && computeMs <= spanMs + SLACK_MS)) {
      return `a stage has computed for ${round(computeMs)} ms of ${round(spanMs)} ms`
    }
    spentMs += spanMs
  }
  const stepMs = receivedAtMs - own.arrivedAtMs
  if (spentMs > stepMs + timings.length * SLACK_MS) {
    return `the stages have spent ${round(spentMs)} ms of a step of ${round(stepMs)} ms`
  }
  return undefined
}

function round(ms: number): number {
  return Math.round(10 * ms) / 10
}
