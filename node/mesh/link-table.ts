import type { LinkEstimate, LinkState } from '../types.ts'
import { MAX_LINK_MBPS, MAX_LINK_SPREAD } from './record.ts'

interface Known {
  outMbps: number
  inMbps: number
  rttMs: number
  spread: number
  atMs: number
}

/** Weight of one real transfer against what is known (an EWMA): a single one says little. */
const TRANSFER_WEIGHT = 0.2

/** What this node measured of its links: its row of the mesh's link matrix. */
export class LinkTable {
  readonly #links = new Map<string, Known>()
  readonly #now: () => number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  measured(peerId: string, { outMbps, inMbps, rttMs, spread }: Omit<LinkEstimate, 'ageMs'>): void {
    // A record with anything else would be refused by every peer.
    if (!(outMbps > 0 && inMbps > 0 && rttMs >= 0 && Number.isFinite(outMbps + inMbps + spread))) return
    this.#links.set(peerId, { outMbps, inMbps, rttMs, spread, atMs: this.#now() })
  }

  /** A real transfer from the peer corrects the estimate; without one to correct it says too little. */
  transferred(peerId: string, bytes: number, ms: number): void {
    const link = this.#links.get(peerId)
    if (link === undefined) return
    const mbps = (8 * bytes) / (ms * 1000)
    const apart = Math.abs(mbps - link.inMbps) / link.inMbps
    link.inMbps += TRANSFER_WEIGHT * (mbps - link.inMbps)
    link.spread += TRANSFER_WEIGHT * (apart - link.spread)
    link.atMs = this.#now()
  }

  forget(peerId: string): void {
    this.#links.delete(peerId)
  }

  /** Milliseconds since the link was last measured or corrected; Infinity when never. */
  ageMs(peerId: string): number {
    const link = this.#links.get(peerId)
    return link === undefined ? Number.POSITIVE_INFINITY : this.#now() - link.atMs
  }

  /** As it goes into this node's record. */
  get row(): Record<string, LinkEstimate> {
    const now = this.#now()
    return Object.fromEntries(
      [...this.#links].map(([peerId, { outMbps, inMbps, rttMs, spread, atMs }]) => [
        peerId,
        {
          outMbps: Math.min(outMbps, MAX_LINK_MBPS),
          inMbps: Math.min(inMbps, MAX_LINK_MBPS),
          rttMs,
          // A transfer far from a tiny estimate can be any number of times it.
          spread: Math.min(spread, MAX_LINK_SPREAD),
          ageMs: now - atMs
        }
      ])
    )
  }
}

/**
 * The matrix of a mesh from everybody's rows. A direction that both ends measured takes the younger value: each says
 * what it saw, neither can speak for other pairs.
 */
export function linkMatrix(rows: ReadonlyMap<string, Readonly<Record<string, LinkEstimate>>>): LinkState[] {
  const best = new Map<string, LinkState>()
  const offer = (link: LinkState) => {
    const key = `${link.from} ${link.to}`
    const known = best.get(key)
    if (rows.has(link.from) && rows.has(link.to) && (known === undefined || link.ageMs < known.ageMs))
      best.set(key, link)
  }
  for (const [peerId, row] of rows) {
    for (const [other, { outMbps, inMbps, rttMs, spread, ageMs }] of Object.entries(row)) {
      offer({ from: peerId, to: other, mbps: outMbps, rttMs, spread, ageMs })
      offer({ from: other, to: peerId, mbps: inMbps, rttMs, spread, ageMs })
    }
  }
  return [...best.values()]
}

/** Ages in a record were right when it was sent. */
export function aged(
  row: Readonly<Record<string, LinkEstimate>>,
  byMs: number
): Record<string, LinkEstimate> {
  return Object.fromEntries(
    Object.entries(row).map(([peerId, link]) => [peerId, { ...link, ageMs: link.ageMs + byMs }])
  )
}
