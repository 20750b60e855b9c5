/** How often it is looked whether answers still pass through here. */
const LOOK_MS = 100
/** What may come at once after a pause: the credit of a link is less, so a token never waits behind more than that. */
const MOST_AT_ONCE_MS = 250

export interface BackgroundPaceInit {
  /** What may come a second on average now, in millions of bits. */
  mbps: () => number
  /** Whether an answer passes through this device: nothing is taken meanwhile. */
  isCarrying: () => boolean
  /** Milliseconds from any fixed moment. */
  now: () => number
  /** Waits so long, and throws when what is fetched is no longer wanted. */
  wait: (ms: number) => Promise<void>
}

/** Lets bytes come that nobody waits for: no more of them than a share of a link takes, and none beside an answer. */
export class BackgroundPace {
  readonly #init: BackgroundPaceInit
  /** When all that has come was due. */
  #dueMs: number

  constructor(init: BackgroundPaceInit) {
    this.#init = init
    this.#dueMs = init.now()
  }

  /** Resolves when more may come behind so many bytes. */
  async take(bytes: number): Promise<void> {
    const { mbps, isCarrying, now, wait } = this.#init
    // What was not taken in a pause is not made up for.
    this.#dueMs = Math.max(this.#dueMs, now() - MOST_AT_ONCE_MS) + (8 * bytes) / (1000 * mbps())
    while (isCarrying()) await wait(LOOK_MS)
    const leftMs = this.#dueMs - now()
    if (leftMs > 0) await wait(leftMs)
  }
}
