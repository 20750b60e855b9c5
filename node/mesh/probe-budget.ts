const HOUR_MS = 3_600_000
/** `c` of the c n log2 n measurements an hour that n devices make together. */
export const PROBES_FACTOR = 6
/** The smallest meshes, too, have more than one try. */
const MIN_PROBES = 12
/** The share of it that measuring again may take: the rest is for links of which nothing is known. */
const REPEATS_SHARE = 0.5

/**
 * How many measurements a node may begin within any hour: PROBES_FACTOR log2(n) in a mesh of n devices, so that all of
 * them together make O(n log n), where measuring every pair would be n squared. Up to 16 devices that is enough for all
 * pairs. The clock is given.
 */
export class ProbeBudget {
  readonly #now: () => number
  #begun: { peerId: string; atMs: number; isRepeat: boolean }[] = []

  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** @param devices of the mesh, this one among them */
  has(devices: number, { isRepeat }: { isRepeat: boolean }): boolean {
    const nowMs = this.#now()
    this.#begun = this.#begun.filter(({ atMs }) => nowMs - atMs < HOUR_MS)
    const most = Math.max(MIN_PROBES, Math.floor(PROBES_FACTOR * Math.log2(devices)))
    if (this.#begun.length >= most) return false
    return !isRepeat || this.#begun.filter(probe => probe.isRepeat).length < REPEATS_SHARE * most
  }

  /** How many of the link to this peer were begun within the last hour, whatever came of them. */
  triesOf(peerId: string): number {
    const nowMs = this.#now()
    return this.#begun.filter(probe => probe.peerId === peerId && nowMs - probe.atMs < HOUR_MS).length
  }

  /** @returns what takes it back, where the peer was busy and nothing was sent */
  begin(peerId: string, { isRepeat }: { isRepeat: boolean }): () => void {
    const probe = { peerId, atMs: this.#now(), isRepeat }
    this.#begun.push(probe)
    return () => {
      this.#begun = this.#begun.filter(other => other !== probe)
    }
  }
}
