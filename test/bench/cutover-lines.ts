import type { Move } from '../../node/api.ts'
import { quantile } from './statistics.ts'

export interface Happened {
  what: string
  /** Tokens that had come before it. */
  tokens: number
  atMs: number
}

/** A move of an answer, with its gap as the reader saw it. */
export interface SeenMove extends Pick<Move, 'reason' | 'tokens'> {
  from: string
  to: string
  loadMs: number
  catchUpMs: number
  gapMs: number
  gapTokens: number
}

/** Gaps before a token whose median is a token time. */
const USUAL_GAPS = 40

/**
 * A gap before a token in token times, which are those of the tokens before it.
 *
 * @param gapsMs between the tokens, in their order
 * @param gap `tokens`: those that had come before it
 */
export function inTokens(
  gapsMs: readonly number[],
  { gapMs, tokens }: { gapMs: number; tokens: number }
): number {
  const before = gapsMs.slice(Math.max(0, tokens - USUAL_GAPS), Math.max(1, tokens - 1))
  return gapMs / quantile(before, 0.5)
}

/** What happened and when the answer went over, in their order, and the gaps of all of it in ms and token times. */
export function cutoverLines({
  happened,
  moves,
  gapsMs
}: {
  happened: readonly Happened[]
  moves: readonly SeenMove[]
  gapsMs: readonly number[]
}): string[] {
  const moved = moves.map(({ reason, tokens, from, to, gapMs, gapTokens, loadMs, catchUpMs }) => {
    const took = `loaded in ${Math.round(loadMs)} ms, caught up in ${Math.round(catchUpMs)} ms`
    const gap = `gap ${gapMs.toFixed(1)} ms, ${gapTokens.toFixed(2)} token times`
    return { tokens, what: `${from} -> ${to}, ${reason}; ${took}; ${gap}` }
  })
  const events = [...happened, ...moved].sort((a, b) => a.tokens - b.tokens)
  const [p50, p99] = [0.5, 0.99].map(q => quantile(gapsMs, q).toFixed(1))
  const gapMs = Math.max(...gapsMs)
  const tokens = gapsMs.indexOf(gapMs) + 1
  const inTimes = inTokens(gapsMs, { gapMs, tokens }).toFixed(2)
  return [
    ...events.map(event => `at token ${event.tokens}: ${event.what}`),
    `between two tokens: median ${p50} ms, p99 ${p99} ms, longest ${gapMs.toFixed(1)} ms, ${inTimes} token times, at token ${tokens}`
  ]
}
