import { MAX_LINK_AGE_MS, MAX_LINK_MBPS, MAX_LINK_SPREAD } from '../../protocols/directory/constants.ts'
import type { LinkEstimate, LinkState } from '../api.ts'
import { Arrivals } from './arrivals.ts'
import { FrameDelays } from './frame-delays.ts'
import { LinkRate, type SeenRate, type Transfer } from './link-rate.ts'

/** What is known of one direction of a link. */
export interface LinkDirection extends SeenRate {
  /** When it was found, by this node's clock; -Infinity where it never was. */
  atMs: number
  /** `probed`: by bursts that were sent for it; `observed`: by what came over it anyway. */
  source: 'probed' | 'observed' | 'assumed'
  /** One of the two devices had too little of its processors while it was found. */
  isStarved: boolean
}

/** A measurement by bursts, as the links protocol gives it. */
export interface ProbedLink {
  outMbps: number
  inMbps: number
  rttMs: number
  spread: number
  isStarved?: boolean
  /** By a few small bursts: it counts as never probed, so that it is measured when it is idle. @default false */
  isGlance?: boolean
}

interface Known {
  /** The way to the peer, which alone sees it arrive: by its word, in a measurement or in its record. */
  out?: LinkDirection | undefined
  /** The way from the peer, by this node's own clock. */
  in?: LinkDirection | undefined
  /** Undefined before anybody has said it. */
  rttMs: number | undefined
  /** When both directions were last probed; -Infinity where they never were. */
  probedAtMs: number
  rate: LinkRate
  delays: FrameDelays
  /** Comes from the peer besides, and how much that is: a glance gets the rest of the link. */
  arrivals: Arrivals
  /** Spans one after the other in which less came than the link should take. */
  slowSpans: number
}

export interface LinkTableInit {
  now?: () => number
  /**
   * What is known of a link has changed by so much that others should hear of it: `soon`, or `by and by` where only a round trip
   * is longer or shorter, which on busy devices it always is.
   */
  onChange?: (peerId: string, when: 'soon' | 'by and by') => void
  /** Frames of a peer take another time than they did: the link is to be looked at. */
  onDoubt?: (peerId: string) => void
}

/** A link that took too long to be measured counts as this; a plan would take one that is unknown for Ethernet. */
const TOO_SLOW = { mbps: 0.5, rttMs: 100, spread: 1 }
/** What a glance finds takes the place of what is known where the two are so far apart: it is no more exact. */
const GLANCE_CHANGE = 0.25
/** So many spans with less than this share of what the link takes are a reason to look at it. */
const SLOW_SPANS = 4
const SLOW_SHARE = 0.5
/** A round trip takes the place of a longer one where it is shorter by this share and so long. */
const RTT_FALL = 0.2
const RTT_FALL_MS = 0.5
/** It takes the place of a shorter one only where it is much longer: at a busy device every heartbeat waits. */
const RTT_RISE = 0.5
const RTT_RISE_MS = 2

/**
 * What this node knows of its links, the only place where that is kept: its row of the mesh's link matrix. Each figure says
 * whether it was probed or observed, when, and whether a device was starved then. One that was found on a starved device
 * takes the place of none that was not.
 */
export class LinkTable {
  readonly #links = new Map<string, Known>()
  /** What was known of links to peers that are gone. */
  readonly #gone = new Map<string, Pick<Known, 'in' | 'out' | 'rttMs'>>()
  readonly #init: LinkTableInit
  readonly #now: () => number

  constructor(init: LinkTableInit = {}) {
    this.#init = init
    this.#now = init.now ?? (() => performance.now())
  }

  /** Bursts measured both directions. */
  measured(
    peerId: string,
    { outMbps, inMbps, rttMs, spread, isStarved = false, isGlance = false }: ProbedLink
  ): void {
    // A record with anything else would be refused by every peer.
    if (!(outMbps > 0 && inMbps > 0 && rttMs >= 0 && Number.isFinite(outMbps + inMbps + spread))) return
    const link = this.#link(peerId)
    const isFirst = link.rttMs === undefined || link.out?.source === 'assumed'
    const now = { atMs: this.#now(), source: 'probed', isStarved, spread } as const
    if (!isGlance) link.probedAtMs = now.atMs
    link.out = better(link.out, { ...now, mbps: outMbps })
    link.in = better(link.in, { ...now, mbps: inMbps })
    if (isFirst || !isStarved) link.rttMs = rttMs
    link.rate.clear()
    link.delays.clear()
  }

  /** Bursts of a peer measured what comes from it, by this node's clock, whichever of the two had asked. */
  probedIn(peerId: string, rate: SeenRate & { isStarved: boolean }): void {
    if (!(rate.mbps > 0 && Number.isFinite(rate.mbps + rate.spread))) return
    const link = this.#link(peerId)
    const before = link.in
    link.in = better(before, { ...rate, atMs: this.#now(), source: 'probed' })
    link.rate.clear()
    link.delays.clear()
    if (link.in !== before) this.#init.onChange?.(peerId, 'soon')
  }

  /** The link could not be measured in time: what is known of it stays, else it is taken for a slow one. */
  tooSlow(peerId: string): void {
    const link = this.#link(peerId)
    const { mbps, spread, rttMs } = TOO_SLOW
    const assumed = {
      mbps,
      spread,
      atMs: Number.NEGATIVE_INFINITY,
      source: 'assumed',
      isStarved: false
    } as const
    link.rttMs ??= rttMs
    link.out ??= assumed
    link.in ??= assumed
  }

  /**
   * A few small bursts of a peer, while tokens may flow.
   *
   * @param rate with `isLeast` where they were too fast to be timed
   * @returns whether they were `news`, said what was known `before`, which is as new as they are where they could be timed, or count for nothing because a
   * device was `starved`
   */
  glanced(
    peerId: string,
    rate: SeenRate & { isLeast: boolean; isStarved: boolean },
    rttMs: number
  ): 'news' | 'before' | 'starved' {
    const link = this.#link(peerId)
    link.delays.clear()
    const known = link.in?.source === 'assumed' ? undefined : link.in
    const { spread, isLeast, isStarved } = rate
    const mbps = rate.mbps + link.arrivals.mbpsAt(this.#now())
    const off = known === undefined ? 1 : mbps / known.mbps - 1
    const isNews = isLeast ? off > GLANCE_CHANGE : Math.abs(off) > GLANCE_CHANGE
    if (isNews) {
      link.in = better(link.in, { mbps, spread, isStarved, atMs: this.#now(), source: 'probed' })
      link.rate.clear()
    } else if (known !== undefined && !isStarved && !isLeast) link.in = { ...known, atMs: this.#now() }
    const isRateNew = isNews && link.in !== known
    const isFar = this.#isOtherRtt(link, rttMs)
    if (isFar) link.rttMs = rttMs
    if (isRateNew || isFar) this.#init.onChange?.(peerId, 'soon')
    if (isNews && !isRateNew) return 'starved'
    return isRateNew || isFar ? 'news' : 'before'
  }

  /**
   * What a peer says in its record of the link to this node. Of what this node sends it the peer is believed, where that is
   * newer; of what it sends itself it is not.
   */
  heard(peerId: string, estimate: LinkEstimate): void {
    const { inMbps, rttMs, spread, ageMs, observed, starved = false } = estimate
    const { inAgeMs = ageMs } = estimate
    if (inAgeMs >= MAX_LINK_AGE_MS) return
    const atMs = this.#now() - inAgeMs
    const link = this.#link(peerId)
    link.rttMs ??= rttMs
    if (link.out !== undefined && link.out.atMs >= atMs) return
    const source = observed === true ? 'observed' : 'probed'
    link.out = better(link.out, { mbps: inMbps, spread, atMs, source, isStarved: starved })
  }

  /** A transfer that came from the peer anyway, and was timed here. Of one that this node was too busy for nothing is learnt. */
  transferred(peerId: string, transfer: Transfer & { isStarved?: boolean }): void {
    if (transfer.isStarved) return
    const link = this.#link(peerId)
    const known = link.in?.source === 'assumed' ? undefined : link.in
    const atMs = this.#now()
    const seen = link.rate.add(transfer, atMs, known?.mbps)
    if (seen === undefined) {
      this.#notePace(peerId, link, transfer)
      return
    }
    link.in = { ...seen, atMs, source: 'observed', isStarved: false }
    link.delays.clear()
    this.#init.onChange?.(peerId, 'soon')
  }

  /** Bytes of weights came from the peer. */
  weightsCame(peerId: string, bytes: number, isStarved: () => boolean): void {
    const span = this.#link(peerId).arrivals.came(bytes, this.#now())
    if (span !== undefined) this.transferred(peerId, { ...span, isStarved: isStarved() })
  }

  /** A frame of whatever size came from the peer, `delayMs` after the peer says that it sent it, by the clocks of both. */
  frameCame(peerId: string, frame: { bytes: number; delayMs: number }): void {
    const link = this.#links.get(peerId)
    if (link?.in === undefined || link.in.source === 'assumed') return
    if (link.delays.add(frame, this.#now(), link.in.mbps)) this.#init.onDoubt?.(peerId)
  }

  /** The least round trip of the last heartbeats: how long the way is, whatever the bursts of a measurement met. */
  answered(peerId: string, rttMs: number): void {
    const link = this.#link(peerId)
    if (!this.#isOtherRtt(link, rttMs)) return
    link.rttMs = rttMs
    this.#init.onChange?.(peerId, 'by and by')
  }

  /** The peer is gone, and with it the link. */
  forget(peerId: string): void {
    const link = this.#links.get(peerId)
    if (link === undefined) return
    this.#links.delete(peerId)
    this.#gone.set(peerId, { in: link.in, out: link.out, rttMs: link.rttMs })
  }

  /** The peer is back. Its link may be another one: what was known of it is assumed until it is measured. */
  metAgain(peerId: string): void {
    const gone = this.#gone.get(peerId)
    if (gone === undefined) return
    this.#gone.delete(peerId)
    const link = this.#link(peerId)
    link.rttMs ??= gone.rttMs
    if (gone.in !== undefined) link.in ??= { ...gone.in, source: 'assumed' }
    if (gone.out !== undefined) link.out ??= { ...gone.out, source: 'assumed' }
  }

  /** Milliseconds since both directions of the link were last probed; Infinity when never. */
  ageMs(peerId: string): number {
    return this.#now() - (this.#links.get(peerId)?.probedAtMs ?? Number.NEGATIVE_INFINITY)
  }

  /** Milliseconds since something was found of what comes from the peer, by whichever side and however; Infinity when never. */
  inAgeMs(peerId: string): number {
    return this.#now() - (this.#links.get(peerId)?.in?.atMs ?? Number.NEGATIVE_INFINITY)
  }

  /** Whether both directions were found, by whichever side: what is assumed was not. */
  isKnown(peerId: string): boolean {
    const { in: back, out } = this.#links.get(peerId) ?? {}
    return [back, out].every(found => found !== undefined && found.source !== 'assumed')
  }

  /** The links as they go into this node's record: those of which both directions are known. */
  get row(): Record<string, LinkEstimate> {
    const now = this.#now()
    const ageOf = ({ atMs }: LinkDirection) => Math.round(Math.min(Math.max(0, now - atMs), MAX_LINK_AGE_MS))
    const row: Record<string, LinkEstimate> = {}
    for (const [peerId, { out, in: back, rttMs }] of this.#links) {
      if (out === undefined || back === undefined || rttMs === undefined) continue
      row[peerId] = {
        outMbps: rounded(Math.min(out.mbps, MAX_LINK_MBPS)),
        inMbps: rounded(Math.min(back.mbps, MAX_LINK_MBPS)),
        rttMs: rounded(rttMs),
        spread: rounded(Math.min(Math.max(out.spread, back.spread), MAX_LINK_SPREAD)),
        // Whatever the other end has measured is younger than what is assumed.
        ageMs: ageOf(out),
        ...(back.atMs !== out.atMs && { inAgeMs: ageOf(back) }),
        ...(back.source === 'observed' && { observed: true }),
        ...((out.isStarved || back.isStarved) && { starved: true })
      }
    }
    return row
  }

  /** Both directions of the links of this node, `self`, for its own matrix. */
  statesOf(self: string): LinkState[] {
    const now = this.#now()
    const stateOf = (
      from: string,
      to: string,
      rttMs: number | undefined,
      known: LinkDirection | undefined
    ): LinkState[] =>
      known === undefined || rttMs === undefined
        ? []
        : [
            {
              ...{ from, to, mbps: known.mbps, rttMs, spread: known.spread },
              ageMs: Math.min(Math.max(0, now - known.atMs), MAX_LINK_AGE_MS),
              ...(known.source === 'observed' && { observed: true }),
              ...(known.isStarved && { starved: true })
            }
          ]
    return [...this.#links].flatMap(([peerId, { out, in: back, rttMs }]) => [
      ...stateOf(self, peerId, rttMs, out),
      ...stateOf(peerId, self, rttMs, back)
    ])
  }

  /** Weights that come ever more slowly than the link takes may be their sender's disk: the link is looked at. */
  #notePace(peerId: string, link: Known, { bytes, ms, isLeast = false }: Transfer): void {
    const isSlow = isLeast && link.in !== undefined && (8 * bytes) / (1000 * ms) < SLOW_SHARE * link.in.mbps
    link.slowSpans = isSlow ? link.slowSpans + 1 : 0
    if (link.slowSpans >= SLOW_SPANS) this.#init.onDoubt?.(peerId)
  }

  #isOtherRtt({ rttMs: known }: Known, rttMs: number): boolean {
    if (!(rttMs >= 0 && Number.isFinite(rttMs))) return false
    if (known === undefined) return true
    return rttMs > known
      ? rttMs - known > Math.max(RTT_RISE_MS, RTT_RISE * known)
      : known - rttMs > Math.max(RTT_FALL_MS, RTT_FALL * known)
  }

  #link(peerId: string): Known {
    let link = this.#links.get(peerId)
    if (link === undefined) {
      const never = Number.NEGATIVE_INFINITY
      link = {
        rttMs: undefined,
        probedAtMs: never,
        rate: new LinkRate(),
        delays: new FrameDelays(),
        arrivals: new Arrivals(),
        slowSpans: 0
      }
      this.#links.set(peerId, link)
    }
    return link
  }
}

/** The value with three digits that count: no link is known more exactly, and a record with all of them is half as long again. */
function rounded(value: number): number {
  return Number(value.toPrecision(3))
}

/** The newer one, unless that was found on a starved device and the older one was not. */
function better(before: LinkDirection | undefined, next: LinkDirection): LinkDirection {
  const isGood = before !== undefined && before.source !== 'assumed' && !before.isStarved
  return isGood && next.isStarved ? before : next
}
