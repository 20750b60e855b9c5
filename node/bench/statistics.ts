import type { Summary } from './types.ts'

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
 * Tokens a second of all sequences together while every one of them decodes: from the last sequence's first token to
 * the first one's last. Where there is no such time, from the first token of all to the last.
 *
 * @param tokenTimesMs of each sequence, ascending, at least one each
 */
export function decodeRate(tokenTimesMs: readonly (readonly number[])[]): number {
  const firsts = tokenTimesMs.map(times => times[0]!)
  const lasts = tokenTimesMs.map(times => times.at(-1)!)
  const [from, to] = [Math.max(...firsts), Math.min(...lasts)]
  return from < to
    ? rate(tokenTimesMs, from, to)
    : rate(tokenTimesMs, Math.min(...firsts), Math.max(...lasts))
}

/** Tokens after `from` and up to `to`, a second. */
export function rate(tokenTimesMs: readonly (readonly number[])[], from: number, to: number): number {
  const tokens = tokenTimesMs.flat().filter(time => time > from && time <= to).length
  return to > from ? (1000 * tokens) / (to - from) : 0
}

function middle(sorted: readonly number[]): number {
  const half = sorted.length >> 1
  return sorted.length % 2 === 1 ? sorted[half]! : (sorted[half - 1]! + sorted[half]!) / 2
}
