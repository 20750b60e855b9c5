import { MAX_WEIGHT_CREDIT_BYTES, MIN_WEIGHT_CREDIT_BYTES, WEIGHT_CREDIT_BYTES } from './constants.ts'

/** How long weights may stand before a link or a busy process: so long a token waits behind them. */
const QUEUE_MS = 3
/** The same while no token passes either end: what is busy otherwise answers late, and more has to be under way for a full link. */
const QUIET_QUEUE_MS = 12
/** Grants are gathered to so many for each window: each costs a message. */
const GRANTS_PER_WINDOW = 8
/** Growth from one window to the next at most; until a queue is seen always. */
const GROWTH = 1.5

/** What is known of the link that weights come over. */
export interface WeightLink {
  rttMs: number
  /** Goodput towards this node, where it was measured. */
  mbps?: number
  /** True while no tokens pass that could wait behind weights. @default never */
  isQuiet?: () => boolean
}

/**
 * How many bytes may be under way. The time from a grant to the arrival of its first byte says how much stands in
 * queues, wherever they are: what it is above its least, on average. The window grows as long as that is below QUEUE_MS, or
 * QUIET_QUEUE_MS, and shrinks above, so a link is filled, a long fast one too, and a token behind the weights waits no longer than that.
 */
export class Credit {
  readonly #now: () => number
  readonly #link: WeightLink
  #window: number
  #received = 0
  #granted: number
  /** Grants of which nothing has come yet: after which byte, and when they were given. */
  readonly #grants: { after: number; atMs: number }[]
  #leastMs = Number.POSITIVE_INFINITY
  #opening = true
  /** Samples of the current window, which ends with the byte `#windowEnd`. */
  #samples = 0
  #sumMs = 0
  #windowEnd: number

  constructor(link: WeightLink, now: () => number = () => performance.now()) {
    this.#now = now
    this.#link = link
    this.#window = link.mbps === undefined ? WEIGHT_CREDIT_BYTES : this.#least
    this.#granted = this.#window
    this.#windowEnd = this.#window
    this.#grants = [{ after: 0, atMs: now() }]
  }

  /** Bytes granted with the request. */
  get initial(): number {
    return this.#window
  }

  /** Bytes to grant now that so many were consumed and `left` have yet to come. */
  consumed(bytes: number, left: number): number {
    this.#received += bytes
    this.#observe()
    const open = this.#granted - this.#received
    const wanted = Math.floor(Math.min(this.#window, left)) - open
    if (wanted < this.#window / GRANTS_PER_WINDOW && open + wanted < left) return 0
    if (wanted <= 0) return 0
    this.#grants.push({ after: this.#granted, atMs: this.#now() })
    this.#granted += wanted
    return wanted
  }

  /**
   * On a busy device everything arrives late, whatever the window: it does not fall below what the link takes. A round
   * trip that was measured on a busy device was longer than the link's.
   */
  get #least(): number {
    const { rttMs, mbps } = this.#link
    if (mbps === undefined) return MIN_WEIGHT_CREDIT_BYTES
    return clamped(((mbps * 1000) / 8) * (Math.min(rttMs, this.#leastMs) + this.#queueMs))
  }

  get #queueMs(): number {
    return this.#link.isQuiet?.() === true ? QUIET_QUEUE_MS : QUEUE_MS
  }

  #observe(): void {
    while (this.#grants.length > 0 && this.#grants[0]!.after < this.#received) {
      const ms = this.#now() - this.#grants.shift()!.atMs
      this.#leastMs = Math.min(this.#leastMs, ms)
      this.#samples++
      this.#sumMs += ms
    }
    if (this.#received < this.#windowEnd || this.#samples === 0) return
    const tookMs = this.#sumMs / this.#samples
    const queueMs = this.#queueMs
    if (tookMs - this.#leastMs > queueMs / 2) this.#opening = false
    // As FAST TCP's: at this window the queue would be so long if all else stays.
    const factor = Math.min(GROWTH, (this.#leastMs + queueMs) / tookMs)
    const steady = 1 + (factor - 1) / 2
    this.#window = Math.max(this.#least, clamped(this.#window * (this.#opening ? GROWTH : steady)))
    this.#windowEnd = this.#received + this.#window
    this.#samples = 0
    this.#sumMs = 0
  }
}

function clamped(bytes: number): number {
  return Math.floor(Math.min(MAX_WEIGHT_CREDIT_BYTES, Math.max(MIN_WEIGHT_CREDIT_BYTES, bytes)))
}
