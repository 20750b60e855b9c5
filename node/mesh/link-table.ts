import { MAX_LINK_AGE_MS, MAX_LINK_MBPS, MAX_LINK_SPREAD } from '../../protocols/directory/constants.ts'
import type { LinkEstimate, LinkState } from '../api.ts'

interface Known {
  outMbps: number
  inMbps: number
  rttMs: number
  spread: number
  /** When it was measured; -Infinity where it never was. */
  atMs: number
  /** When a transfer last corrected what is known of the way here. */
  inAtMs: number
}

/** Weight of one real transfer against what is known (an EWMA): a single one says little. */
const TRANSFER_WEIGHT = 0.2
/** A link that took too long to be measured counts as this; a plan would take one that is unknown for Ethernet. */
const TOO_SLOW: Omit<LinkEstimate, 'ageMs' | 'inAgeMs'> = { outMbps: 0.5, inMbps: 0.5, rttMs: 100, spread: 1 }
/** One transfer that a busy device or other traffic held up, or that came in a lump, says no more than this. */
const MAX_APART = 1

/** What this node measured of its links: its row of the mesh's link matrix. */
export class LinkTable {
  readonly #links = new Map<string, Known>()
  readonly #now: () => number

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  measured(
    peerId: string,
    { outMbps, inMbps, rttMs, spread }: Omit<LinkEstimate, 'ageMs' | 'inAgeMs'>
  ): void {
    // A record with anything else would be refused by every peer.
    if (!(outMbps > 0 && inMbps > 0 && rttMs >= 0 && Number.isFinite(outMbps + inMbps + spread))) return
    const atMs = this.#now()
    this.#links.set(peerId, { outMbps, inMbps, rttMs, spread, atMs, inAtMs: atMs })
  }

  /** The link could not be measured in time: what is known of it stays, else it is taken for a slow one. */
  tooSlow(peerId: string): void {
    const never = Number.NEGATIVE_INFINITY
    if (!this.#links.has(peerId)) this.#links.set(peerId, { ...TOO_SLOW, atMs: never, inAtMs: never })
  }

  /** A real transfer from the peer corrects the estimate; without one to correct it says too little. */
  transferred(peerId: string, bytes: number, ms: number): void {
    const link = this.#links.get(peerId)
    if (link === undefined || link.atMs === Number.NEGATIVE_INFINITY) return
    const mbps = (8 * bytes) / (ms * 1000)
    const off = Math.min(MAX_APART, (mbps - link.inMbps) / link.inMbps)
    link.inMbps *= 1 + TRANSFER_WEIGHT * off
    link.spread += TRANSFER_WEIGHT * (Math.abs(off) - link.spread)
    link.inAtMs = this.#now()
  }

  forget(peerId: string): void {
    this.#links.delete(peerId)
  }

  /** Milliseconds since the link was last measured; Infinity when never. */
  ageMs(peerId: string): number {
    const link = this.#links.get(peerId)
    return link === undefined ? Number.POSITIVE_INFINITY : this.#now() - link.atMs
  }

  /** The links as they go into this node's record. */
  get row(): Record<string, LinkEstimate> {
    const now = this.#now()
    return Object.fromEntries(
      [...this.#links].map(([peerId, { outMbps, inMbps, rttMs, spread, atMs, inAtMs }]) => [
        peerId,
        {
          outMbps: Math.min(outMbps, MAX_LINK_MBPS),
          inMbps: Math.min(inMbps, MAX_LINK_MBPS),
          rttMs,
          // A transfer far from a tiny estimate can be any number of times it.
          spread: Math.min(spread, MAX_LINK_SPREAD),
          // Whatever the other end has measured is younger than what is assumed.
          ageMs: Math.min(now - atMs, MAX_LINK_AGE_MS),
          ...(inAtMs > atMs && { inAgeMs: now - inAtMs })
        }
      ])
    )
  }
}

/**
 * The matrix of a mesh from all members' rows. A direction that both ends measured takes the younger value: each says
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
    for (const [other, { outMbps, inMbps, rttMs, spread, ageMs, inAgeMs }] of Object.entries(row)) {
      offer({ from: peerId, to: other, mbps: outMbps, rttMs, spread, ageMs })
      offer({ from: other, to: peerId, mbps: inMbps, rttMs, spread, ageMs: inAgeMs ?? ageMs })
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
    Object.entries(row).map(([peerId, { ageMs, inAgeMs, ...link }]) => [
      peerId,
      { ...link, ageMs: ageMs + byMs, ...(inAgeMs !== undefined && { inAgeMs: inAgeMs + byMs }) }
    ])
  )
}
