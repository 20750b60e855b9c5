import type { Counted, Summary } from './types.ts'

/** @param values at least one */
export function summaryOf(values: readonly number[]): Summary {
  const sorted = [...values].sort((a, b) => a - b)
  return { median: middle(sorted), min: sorted[0]!, max: sorted.at(-1)! }
}

/** (max - min) / median. */
export function spreadOf({ median, min, max }: Summary): number {
  return median === 0 ? 0 : (max - min) / median
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

/**
 * A rate of fewer tokens of a sequence hangs on which of those of its first and last step are counted, which can be off by
 * a step: by an eighth at most, with as many as this.
 */
export const LEAST_COUNTED = 8

/**
 * Tokens of all sequences together while every one of them decodes: from the last sequence's first token to the first one's
 * last. Where a sequence has fewer than LEAST_COUNTED tokens in that time, from the first token of all to the last.
 *
 * @param tokenTimesMs of each sequence, ascending, at least one each
 */
export function countDecoded(tokenTimesMs: readonly (readonly number[])[]): Counted {
  const firsts = tokenTimesMs.map(times => times[0]!)
  const lasts = tokenTimesMs.map(times => times.at(-1)!)
  const together = count(tokenTimesMs, Math.max(...firsts), Math.min(...lasts))
  if (together.ms > 0 && together.least >= LEAST_COUNTED) return { ...together, together: true }
  const all = count(tokenTimesMs, Math.min(...firsts), Math.max(...lasts))
  return { ...all, together: tokenTimesMs.length === 1 }
}

/** Tokens after `fromMs` and up to `toMs`, a second. */
export function rate(tokenTimesMs: readonly (readonly number[])[], fromMs: number, toMs: number): number {
  return rateOf(count(tokenTimesMs, fromMs, toMs))
}

/** Tokens a second; 0 where they took no time. */
export function rateOf({ tokens, ms }: Pick<Counted, 'tokens' | 'ms'>): number {
  return ms > 0 ? (1000 * tokens) / ms : 0
}

function count(
  tokenTimesMs: readonly (readonly number[])[],
  fromMs: number,
  toMs: number
): Omit<Counted, 'together'> {
  const each = tokenTimesMs.map(times => times.filter(time => time > fromMs && time <= toMs).length)
  return {
    tokens: each.reduce((sum, tokens) => sum + tokens, 0),
    least: Math.min(...each),
    ms: toMs - fromMs
  }
}

function middle(sorted: readonly number[]): number {
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
}
