import type { Strategy } from '../../api.ts'
import type { SourceSession } from './source-session.ts'

/**
 * The micro-batches that can start a step now: those with a session that is ready and without one whose step is on its
 * way; where the strategy is `bubble`, none while any step is. A session that is prefilled is in no micro-batch yet.
 *
 * @param slots neighbouring slots whose sessions decode together
 */
export function startable(
  sessions: Iterable<SourceSession>,
  slots: number,
  strategy: Strategy
): SourceSession[][] {
  const microBatches = new Map<number, SourceSession[]>()
  const stepping = new Set<number>()
  for (const session of sessions) {
    const index = Math.floor(session.slot / slots)
    if (session.busy && !session.prefilling) stepping.add(index)
    else if (session.ready) {
      const ready = microBatches.get(index)
      if (ready === undefined) microBatches.set(index, [session])
      else ready.push(session)
    }
  }
  if (strategy === 'bubble' && stepping.size > 0) return []
  for (const index of stepping) microBatches.delete(index)
  return [...microBatches.values()]
}
