/**
 * What context costs: attention looks at every token before, so a token takes longer the more there are. The workload
 * says how many that are, and with them it is one more time of a layer, which the planner adds up like the others.
 */
import type { KindTimes, Point } from './problem.ts'

/** What one layer kind takes, and how that grows with the tokens before a token. */
export interface TimesByContext extends KindTimes {
  /** Milliseconds of a step of one sequence; `decodeMs` is meant at the first of the points. */
  readonly decodeMsByContext?: readonly Point[] | undefined
  /** Milliseconds of one token of a prompt; `prefillMsPerToken` is meant at the first of the points. */
  readonly prefillMsPerTokenByContext?: readonly Point[] | undefined
}

/** The tokens of one sequence. */
export interface ContextWorkload {
  /** Tokens in the KV cache before the prompt. */
  readonly cachedTokens: number
  readonly promptTokens: number
  readonly newTokens: number
}

/** The times that layers have for a workload's tokens, in the mean over the prompt's and over the answer's. */
export function timesForContext(
  { decodeMsByContext, prefillMsPerTokenByContext, ...times }: TimesByContext,
  { cachedTokens, promptTokens, newTokens }: ContextWorkload
): KindTimes {
  const { decodeMsByBatch, prefillMsByTokens } = times
  const end = cachedTokens + promptTokens
  const step = growthMs(decodeMsByContext, [end, end + newTokens])
  const token = growthMs(prefillMsPerTokenByContext, [cachedTokens, end])
  return {
    ...times,
    decodeMs: times.decodeMs + step,
    decodeMsPerExtraSequence: times.decodeMsPerExtraSequence + step,
    prefillMsPerToken: times.prefillMsPerToken + token,
    ...(decodeMsByBatch && { decodeMsByBatch: decodeMsByBatch.map(([b, ms]): Point => [b, ms + b * step]) }),
    ...(prefillMsByTokens && {
      prefillMsByTokens: promptAt(prefillMsByTokens, prefillMsPerTokenByContext, [cachedTokens, end])
    })
  }
}

/** Time at `at`: linear between points, proportional beyond the last, the first point's below it. */
export function interpolateMs(points: readonly Point[], at: number): number {
  let below: Point | undefined
  for (const point of points) {
    if (at <= point[0]) {
      if (below === undefined) return point[1]
      return below[1] + ((point[1] - below[1]) * (at - below[0])) / (point[0] - below[0])
    }
    below = point
  }
  return below === undefined ? 0 : (below[1] * at) / below[0]
}

/** Whole prompts were timed up to some length, with the attention within them: only what is beyond that is added. */
function promptAt(
  measured: readonly Point[],
  byContext: readonly Point[] | undefined,
  [start, end]: readonly [number, number]
): Point[] {
  const tokens = end - start
  const longest = measured.at(-1)![0]
  const within = growthMs(byContext, [0, Math.min(tokens, longest)])
  const ms = interpolateMs(measured, tokens) + tokens * (growthMs(byContext, [start, end]) - within)
  return [...measured.filter(([at]) => at !== tokens), [tokens, ms] as const].sort((a, b) => a[0] - b[0])
}

/** What a token takes longer than at the first point, in the mean over contexts `[start, end)`; never less than nothing. */
function growthMs(points: readonly Point[] | undefined, [start, end]: readonly [number, number]): number {
  if (points === undefined || points.length < 2) return 0
  return Math.max(0, (integral(points, end) - integral(points, start)) / (end - start) - points[0]![1])
}

/** The sum of the times at contexts `[0, end)`: linear between points, before the first and beyond the last. */
function integral(points: readonly Point[], end: number): number {
  let sum = 0
  points.slice(1).forEach((to, i) => {
    const from = points[i]!
    const start = i === 0 ? 0 : from[0]
    const until = i === points.length - 2 ? end : Math.min(end, to[0])
    if (until <= start) return
    const slope = (to[1] - from[1]) / (to[0] - from[0])
    sum += (until - start) * (from[1] + slope * ((start + until) / 2 - from[0]))
  })
  return sum
}
