import { formatBytes } from './units.ts'

/** Less time says nothing of a rate. */
const LEAST_SECONDS = 0.2
/** What takes longer is said in minutes. */
const LONG_SECONDS = 90

/**
 * The pace of a piece of work, behind how far it is, in a terminal and on the page: `, 11.0 MiB/s, 3 s left`, `, 3 min left` of what
 * is no bytes, `, there` once all is done, and nothing while there is nothing to go by.
 *
 * @param from what was done before it began
 * @param seconds since then
 * @param unit what is counted; absent: bytes
 */
export function paceOf(
  { done, total, from = 0 }: { done: number; total: number; from?: number },
  seconds: number,
  unit?: string
): string {
  if (total > 0 && done >= total) return ', there'
  const rate = (done - from) / seconds
  if (!(rate > 0) || seconds < LEAST_SECONDS) return ''
  const leftSeconds = (total - done) / rate
  const left =
    leftSeconds < LONG_SECONDS ? `${Math.ceil(leftSeconds)} s` : `${Math.ceil(leftSeconds / 60)} min`
  return `${unit === undefined ? `, ${formatBytes(rate)}/s` : ''}, ${left} left`
}
