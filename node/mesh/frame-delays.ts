/** Frames of so long, and so many at least, are compared with those before. */
const RECENT_MS = 1000
const MIN_FRAMES = 3
const MAX_FRAMES = 256
/** Earlier frames are kept in spans of so long, so many of them: two crystals drift apart by some ms a minute. */
const SPAN_MS = 2000
const MIN_SPAN_FRAMES = 8
const SPANS = 12
/** Less than this a busy process explains, or a turn of the network's queue. */
const LEAST_CHANGE_MS = 4

interface Span {
  fromMs: number
  frames: number
  leastMs: number
}

/**
 * Notices that the frames of one direction of a link take longer than they did, or less: the link, its delay or a clock
 * has changed, and which it was a measurement says.
 *
 * What a frame takes is the way, and its size over the rate: t = d + s / r for the least of many, which met no queue (A.
 * Downey, Using pathchar to estimate Internet link characteristics, SIGCOMM 1999). Its sender's clock has another beginning, so
 * d is off by an unknown constant, and only changes of it can be seen. Because the times are the peer's claim, nothing is
 * learnt from them but that the link is to be looked at.
 */
export class FrameDelays {
  #recent: { atMs: number; excessMs: number; sizeMs: number }[] = []
  #spans: Span[] = []

  /**
   * @param delayMs from the moment that the sender says it was sent at, by its clock, to its arrival, by this one
   * @param atMs when it arrived
   * @param mbps what is known of the direction
   * @returns true where frames take another time than before
   */
  add({ bytes, delayMs }: { bytes: number; delayMs: number }, atMs: number, mbps: number): boolean {
    const sizeMs = (8 * bytes) / (mbps * 1000)
    const excessMs = delayMs - sizeMs
    if (!Number.isFinite(excessMs)) return false
    this.#recent.push({ atMs, excessMs, sizeMs })
    const isOld = () => this.#recent[0]!.atMs < atMs - RECENT_MS
    while (this.#recent.length > MAX_FRAMES || (this.#recent.length > MIN_FRAMES && isOld()))
      this.#remember(this.#recent.shift()!)
    const horizonMs = atMs - SPANS * SPAN_MS
    this.#spans = this.#spans.filter(({ fromMs }, i, all) => fromMs >= horizonMs || i === all.length - 1)
    const before = this.#spans.filter(({ frames }) => frames >= MIN_SPAN_FRAMES).map(({ leastMs }) => leastMs)
    if (this.#recent.length < MIN_FRAMES || before.length === 0) return false
    const nowMs = Math.min(...this.#recent.map(frame => frame.excessMs))
    // A link that is faster takes off a part of what its size takes, never more.
    const margin = Math.max(LEAST_CHANGE_MS, Math.max(...this.#recent.map(frame => frame.sizeMs)) / 2)
    return nowMs - Math.min(...before) > margin || Math.max(...before) - nowMs > margin
  }

  /** The link was looked at: from now on frames are compared with those that come next. */
  clear(): void {
    this.#recent = []
    this.#spans = []
  }

  #remember({ atMs, excessMs }: { atMs: number; excessMs: number }): void {
    const last = this.#spans.at(-1)
    if (last !== undefined && (atMs - last.fromMs < SPAN_MS || last.frames < MIN_SPAN_FRAMES)) {
      last.leastMs = Math.min(last.leastMs, excessMs)
      last.frames++
    } else this.#spans.push({ fromMs: atMs, frames: 1, leastMs: excessMs })
  }
}
