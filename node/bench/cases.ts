import type { BenchCase, BenchOptions } from './types.ts'

/** The rows that options ask for, in the order in which they are measured: those of one deployment behind each other. */
export function casesOf(
  options: Pick<BenchOptions, 'objectives' | 'methods' | 'batches' | 'strategies'>
): BenchCase[] {
  const { objectives, methods, batches, strategies } = options
  return objectives.flatMap(objective =>
    methods.flatMap((method): BenchCase[] => {
      if (objective === 'latency') return [{ objective, method, strategy: null, batch: 1 }]
      return batches.flatMap(batch =>
        // One sequence is one micro-batch, which waits for no other.
        (batch === 1 ? [null] : strategies).map(strategy => ({ objective, method, strategy, batch }))
      )
    })
  )
}
