import { quantile } from './statistics.ts'

/** What was chosen on one mesh for one objective, beside the best that was measured there. */
export interface Chosen {
  objective: 'latency' | 'throughput'
  predictedMs: number
  measuredMs: number
  /** What its placement took in the median of all rows that ran on it; absent: there is no other row, or none differs by chance. */
  placedMs?: number
  /** The same of the best placement there. */
  bestMs: number
  /** The first token, with the load before it where there was one; of answers that were asked for by a client. */
  first?: { predictedMs: number; measuredMs: number }
}

/** What one waits longer than with the best of all, as a share of that: placement against placement, not one answer against the luckiest. */
export function regretOf({
  measuredMs,
  placedMs = measuredMs,
  bestMs
}: Pick<Chosen, 'measuredMs' | 'placedMs' | 'bestMs'>): number {
  return Math.max(0, placedMs / bestMs - 1)
}

/** Figures with what their placement takes beside the best one of all that were measured: medians, so that no row wins by its luck. */
export function withBest<F extends { placement: string; measuredMs: number }>(
  figures: readonly F[],
  others: readonly { placement: string; measuredMs: number }[]
): (F & { placedMs: number; bestMs: number })[] {
  const placements = Map.groupBy([...figures, ...others], ({ placement }) => placement)
  const takes = new Map(
    [...placements].map(([placement, rows]) => {
      return [
        placement,
        quantile(
          rows.map(({ measuredMs }) => measuredMs),
          0.5
        )
      ]
    })
  )
  const bestMs = Math.min(...takes.values())
  return figures.map(figure => ({ ...figure, placedMs: takes.get(figure.placement)!, bestMs }))
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
