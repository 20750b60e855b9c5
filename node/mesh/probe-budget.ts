const HOUR_MS = 3_600_000
/** `c` of the c n log2 n measurements an hour that n devices make together. */
export const PROBES_FACTOR = 6
/** The smallest meshes, too, have more than one try. */
const MIN_PROBES = 12
/** The share of it that measuring again may take: the rest is for links of which nothing is known. */
const REPEATS_SHARE = 0.5
/** Share of an hour that measuring again may take: 18 s, however slow the links are. */
export const REPEATS_TIME_SHARE = 0.005
/** Share of that time for one link: a peer that drips, or a slow one, must not use up the time of others. */
const LINK_TIME_SHARE = 0.25

interface Probe {
  peerId: string
  atMs: number
  isRepeat: boolean
  /** What it has taken, once it has come to its end. */
  tookMs: number
}

/** What becomes of a measurement that was begun. */
export interface BegunProbe {
  /** The peer was busy and nothing was sent: it does not count. */
  takeBack(): void
  /** It has come to its end, and has taken so long until now. */
  end(): void
}

/**
 * How many measurements a node may begin within any hour: PROBES_FACTOR log2(n) in a mesh of n devices, so that all of
 * them together make O(n log n), where measuring every pair would be n squared. Up to 16 devices that is enough for all
 * pairs. The clock is given.
 */
export class ProbeBudget {
  readonly #now: () => number
  #begun: Probe[] = []

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /**
   * Whether the link to a peer may be measured now.
   *
   * @param devices of the mesh, this one among them
   */
  has(devices: number, { peerId, isRepeat }: { peerId: string; isRepeat: boolean }): boolean {
    const nowMs = this.#now()
    this.#begun = this.#begun.filter(({ atMs }) => nowMs - atMs < HOUR_MS)
    const most = Math.max(MIN_PROBES, Math.floor(PROBES_FACTOR * Math.log2(devices)))
    if (this.#begun.length >= most) return false
    if (!isRepeat) return true
    const repeats = this.#begun.filter(probe => probe.isRepeat)
    const mostMs = REPEATS_TIME_SHARE * HOUR_MS
    const mostOfOneMs = LINK_TIME_SHARE * mostMs
    const tookMs = new Map<string, number>()
    for (const probe of repeats)
      tookMs.set(probe.peerId, Math.min(mostOfOneMs, (tookMs.get(probe.peerId) ?? 0) + probe.tookMs))
    const allMs = [...tookMs.values()].reduce((sum, ms) => sum + ms, 0)
    return repeats.length < REPEATS_SHARE * most && allMs < mostMs && (tookMs.get(peerId) ?? 0) < mostOfOneMs
  }

  /** How many of the link to this peer were begun within the last hour, whatever came of them. */
  triesOf(peerId: string): number {
    const nowMs = this.#now()
    return this.#begun.filter(probe => probe.peerId === peerId && nowMs - probe.atMs < HOUR_MS).length
  }

  begin(peerId: string, { isRepeat }: { isRepeat: boolean }): BegunProbe {
    const probe: Probe = { peerId, atMs: this.#now(), isRepeat, tookMs: 0 }
    this.#begun.push(probe)
    return {
      takeBack: () => {
        this.#begun = this.#begun.filter(other => other !== probe)
      },
      // One that never ends has pauses of its own: a peer that says nothing must not use up the time of others.
      end: () => {
        probe.tookMs = this.#now() - probe.atMs
      }
    }
  }
}
