import type { LinkState } from '../../api.ts'

/** Holders of weights for a peer, without itself: those with the fastest links to it first, unmeasured ones last. */
export function nearestFirst(holders: readonly string[], to: string, links: readonly LinkState[]): string[] {
  const mbps = new Map(links.filter(link => link.to === to).map(link => [link.from, link.mbps]))
  return holders.filter(peerId => peerId !== to).toSorted((a, b) => (mbps.get(b) ?? 0) - (mbps.get(a) ?? 0))
}
