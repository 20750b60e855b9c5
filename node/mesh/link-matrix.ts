import type { LinkEstimate, LinkState } from '../api.ts'

/** The own figure for what comes in is believed before the peer's up to this age: by then the most idle link was measured again. */
const MAX_OWN_AGE_MS = 8.5 * 3_600_000

type Row = Readonly<Record<string, LinkEstimate>>

/**
 * The matrix of a mesh from all members' rows. Of a direction that both ends have measured a figure of devices that were
 * not starved counts before one of devices that were, then the younger one: each says what it saw, neither can speak for
 * other pairs.
 *
 * @param own what the node whose matrix it is knows of its own links: that counts, whatever a peer says of them
 */
export function linkMatrix(rows: ReadonlyMap<string, Row>, own: readonly LinkState[] = []): LinkState[] {
  const best = new Map<string, Offer>()
  const offer = (link: LinkState, isOwn = false) => {
    if (!rows.has(link.from) || !rows.has(link.to)) return
    const key = `${link.from} ${link.to}`
    const known = best.get(key)
    if (known === undefined || isBetter({ link, isOwn }, known)) best.set(key, { link, isOwn })
  }
  for (const link of own) offer(link, link.ageMs < MAX_OWN_AGE_MS)
  for (const [peerId, row] of rows) {
    for (const [other, estimate] of Object.entries(row)) {
      const { outMbps, inMbps, rttMs, spread, ageMs, inAgeMs, observed, starved } = estimate
      const common = { rttMs, spread, ...(starved && { starved }) }
      offer({ from: peerId, to: other, mbps: outMbps, ...common, ageMs })
      const back = { from: other, to: peerId, mbps: inMbps, ...common, ageMs: inAgeMs ?? ageMs }
      offer({ ...back, ...(observed && { observed }) })
    }
  }
  return [...best.values()].map(({ link }) => link)
}

interface Offer {
  link: LinkState
  isOwn: boolean
}

function isBetter(next: Offer, known: Offer): boolean {
  const starved = [next, known].map(({ link }) => link.starved === true)
  if (starved[0] !== starved[1]) return starved[1]!
  if (next.isOwn !== known.isOwn) return next.isOwn
  return next.link.ageMs < known.link.ageMs
}

/** Ages in a record were right when it was sent. */
export function aged(row: Row, byMs: number): Record<string, LinkEstimate> {
  return Object.fromEntries(
    Object.entries(row).map(([peerId, { ageMs, inAgeMs, ...link }]) => [
      peerId,
      { ...link, ageMs: ageMs + byMs, ...(inAgeMs !== undefined && { inAgeMs: inAgeMs + byMs }) }
    ])
  )
}
