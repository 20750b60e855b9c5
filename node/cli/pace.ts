import { formatBytes } from '../units.ts'

/** Less time says nothing of a rate. */
const LEAST_SECONDS = 0.2

/**
 * How far a piece of work is, and how long it still takes at the pace so far: `12.0 MiB of 40.2 MiB, 11.0 MiB/s, 3 s left`, or
 * `3 of 10 layers, 2 s left`.
 *
 * @param unit what is counted; absent: bytes
 * @param from what was done before it began
 */
export function paceText(
  { done, total, from = 0 }: { done: number; total: number; from?: number },
  seconds: number,
  unit?: string
): string {
  const part =
    unit === undefined ? `${formatBytes(done)} of ${formatBytes(total)}` : `${done} of ${total} ${unit}`
  const rate = (done - from) / seconds
  if (!(rate > 0) || seconds < LEAST_SECONDS) return part
  const pace = unit === undefined ? `, ${formatBytes(rate)}/s` : ''
  return `${part}${pace}, ${Math.ceil((total - done) / rate)} s left`
}
