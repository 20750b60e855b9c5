/** Mbps of one direction, and how far the transfers that it rests on were apart, relative to their mean. */
export interface SeenRate {
  mbps: number
  spread: number
}

/** Bytes that arrived here, and how long they took from the first piece to the last, by this node's clock. */
export interface Transfer {
  bytes: number
  ms: number
  /** Its sender may have been what was slow: the link is as fast as that at least. @default false */
  isLeast?: boolean
}

interface Sample {
  mbps: number
  atMs: number
  isLeast: boolean
}

/** Transfers of so long count together: what slows one for a moment does not slow all of them. */
const WINDOW_MS = 2000
/** The last ones count up to this age where there are few. */
const MIN_SAMPLES = 3
const MAX_SAMPLE_AGE_MS = 30_000
/** So many of a fast link say enough. */
const MAX_SAMPLES = 64
/** Two transfers within this of each other, relative to their mean, are the link. */
const AGREEMENT = 0.2
/** What is seen takes the place of what is known where the two are so far apart. */
const CHANGE = 0.1

/**
 * The rate of one direction of a link, from the transfers that arrive over it anyway.
 *
 * Delay and rate are told apart by what is timed: from the arrival of a transfer's first piece to that of its last one, so
 * neither the way there nor any clock but this one is in it. That says something only of transfers of several pieces, which
 * are larger than what is delivered at once; of smaller frames nothing is taken here (`FrameDelays` notices that they have
 * become slower, and the link is looked at). A transfer is held up by whatever else the two devices do, and sped up by
 * nothing but a reader that came late to its first piece; so the rate is the largest of a window, as in BBR (N. Cardwell
 * et al., BBR: Congestion-Based Congestion Control, ACM Queue 14(5), 2016), of which two have to agree. A transfer that
 * its sender may have limited counts only where it is above what is known, as samples that are limited by the application
 * do in draft-cheng-iccrg-delivery-rate-estimation-02, section 3.2.
 */
export class LinkRate {
  #samples: Sample[] = []

  /**
   * Adds a transfer that ended at `atMs` of this node's clock.
   *
   * @param knownMbps what is known of the direction, undefined where nothing is
   * @returns the rate as it is seen now, where that is another than the known one
   */
  add(
    { bytes, ms, isLeast = false }: Transfer,
    atMs: number,
    knownMbps: number | undefined
  ): SeenRate | undefined {
    const mbps = (8 * bytes) / (ms * 1000)
    if (!(mbps > 0 && Number.isFinite(mbps))) return undefined
    this.#samples = this.#samples.filter(
      (old, i, all) =>
        atMs - old.atMs <= WINDOW_MS || (i > all.length - MIN_SAMPLES && atMs - old.atMs <= MAX_SAMPLE_AGE_MS)
    )
    this.#samples = [...this.#samples, { mbps, atMs, isLeast }].slice(-MAX_SAMPLES)
    const seen = fastestPair(this.#samples)
    if (seen === undefined) return undefined
    if (knownMbps === undefined || seen.mbps > knownMbps * (1 + CHANGE)) return seen
    if (seen.mbps > knownMbps * (1 - CHANGE) || this.#isConfirmed(knownMbps)) return undefined
    const limited = this.#samples.filter(sample => !sample.isLeast)
    return limited.length < MIN_SAMPLES - 1 ? undefined : seen
  }

  /** A single transfer that was as fast as what is known says that the others were held up. */
  #isConfirmed(knownMbps: number): boolean {
    return this.#samples.some(({ mbps }) => Math.abs(mbps - knownMbps) <= AGREEMENT * knownMbps)
  }

  /** What was seen before says nothing of the link any more. */
  clear(): void {
    this.#samples = []
  }
}

/** The fastest two that agree; undefined where no two do. */
function fastestPair(samples: readonly Sample[]): SeenRate | undefined {
  const rates = samples.map(({ mbps }) => mbps).sort((a, b) => b - a)
  for (let i = 1; i < rates.length; i++) {
    const [high, low] = [rates[i - 1]!, rates[i]!]
    const mbps = (high + low) / 2
    const spread = (high - low) / mbps
    if (spread <= AGREEMENT) return { mbps, spread }
  }
  return undefined
}
