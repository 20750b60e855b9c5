import { paceOf } from '../pace.ts'
import { formatBytes } from '../units.ts'

/**
 * How far a piece of work is, and its pace: `12.0 MiB of 40.2 MiB, 11.0 MiB/s, 3 s left`, or `3 of 10 layers, 2 s left`.
 *
 * @param unit what is counted; absent: bytes
 * @param from what was done before it began
 */
export function paceText(
  work: { done: number; total: number; from?: number },
  seconds: number,
  unit?: string
): string {
  const { done, total } = work
  const part =
    unit === undefined ? `${formatBytes(done)} of ${formatBytes(total)}` : `${done} of ${total} ${unit}`
  return `${part}${paceOf(work, seconds, unit)}`
}
