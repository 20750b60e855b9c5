import type { Peers } from '../../mesh/peers.ts'
import { formatMs } from '../../units.ts'

/** Named to people: a mesh may have lost a hundred. */
const MOST_NAMED = 8

/**
 * Says which devices are not counted since they are silent or were lost lately, those that went last first:
 * `laptop (gone 2.38 s ago), phone (silent for 3.10 s)`; empty where there are none.
 */
export function missingText(peers: Pick<Peers, 'known' | 'nameOf'>): string {
  const missing = peers.known
    .filter(({ state, direct }) => state === 'gone' || (state === 'suspect' && direct))
    .sort((a, b) => a.lastSeenMs - b.lastSeenMs)
  const named = missing.slice(0, MOST_NAMED).map(({ record: { peerId }, state, lastSeenMs }) => {
    const since = formatMs(lastSeenMs)
    return `${peers.nameOf(peerId)} (${state === 'gone' ? `gone ${since} ago` : `silent for ${since}`})`
  })
  const more = missing.length - named.length
  return [...named, ...(more > 0 ? [`${more} more`] : [])].join(', ')
}
