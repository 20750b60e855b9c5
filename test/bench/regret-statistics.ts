import { quantile } from './statistics.ts'

/** What was chosen on one mesh for one objective, beside the best that was measured there. */
export interface Chosen {
  objective: 'latency' | 'throughput'
  predictedMs: number
  measuredMs: number
  bestMs: number
  /** The first token, with the load before it where there was one; of answers that were asked for by a client. */
  first?: { predictedMs: number; measuredMs: number }
}

/** What one waits longer than with the best of all, as a share of that. */
export function regretOf({ measuredMs, bestMs }: Pick<Chosen, 'measuredMs' | 'bestMs'>): number {
  return Math.max(0, measuredMs / bestMs - 1)
}

export function errorOf({ predictedMs, measuredMs }: Pick<Chosen, 'predictedMs' | 'measuredMs'>): number {
  return Math.abs(predictedMs - measuredMs) / measuredMs
}

/** `error median 3.1 %, worst 8.0 %; regret median 1.0 %, worst 4.2 %`. */
export function summary(rows: readonly Chosen[]): string {
  const of = (values: readonly number[]) =>
    values.length === 0
      ? 'none'
      : `median ${percent(quantile(values, 0.5))}, worst ${percent(Math.max(...values))}`
  const firsts = rows.flatMap(({ first }) => (first === undefined ? [] : [errorOf(first)]))
  const told = firsts.length > 0 ? `; first token with its load: error ${of(firsts)}` : ''
  return `error ${of(rows.map(errorOf))}; regret ${of(rows.map(regretOf))}${told}`
}

export function percent(share: number): string {
  return `${(100 * share).toFixed(1)} %`
}
