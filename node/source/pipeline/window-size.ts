import type { StageTiming } from '../../../protocols/stage/frame.ts'

/** Guesses under way at most, however long the links are. */
export const MAX_GUESSES = 32
/** A guess is not fed that holds, with all before it, less often than this. */
const LEAST_CHANCE = 0.05
/** What a draft is taken to be worth before it has guessed. */
const FIRST_ACCEPTANCE = 0.4
/** Weight of the newest guess, and of the newest time. */
const NEWEST = 1 / 8
/** Tokens that are compared for the shortest way: what links and threads take when nothing is before a step. */
const WAYS_TOKENS = 32
/** Where a stage is faster, what a step waits says more of the machine than of other steps. */
const LEAST_STEP_MS = 4
/** Tokens without guesses at first, so that there is something to compare with. */
export const PLAIN_TOKENS = 4
/** Tokens after which it is looked whether guesses pay. */
export const BLOCK_TOKENS = 32
/** Blocks without guesses after some that did not pay, at most; each time twice as many. */
const MAX_REST_BLOCKS = 16
/** One token in so many is guessed, and not fed, while the draft is too bad for a window. */
export const PROBE_TOKENS = 8

/**
 * How many guesses of one answer may be under way. As many as keep its slowest stage busy until the token before them is
 * back, so that a wrong one takes no stage's time from the right token behind it; fewer where the draft is often wrong, or
 * where the token that is certain has to wait for others' steps; none where tokens come no faster than without.
 */
export class WindowSize {
  #acceptance = FIRST_ACCEPTANCE
  /** Of the slowest stage, and of all together, for one token. */
  #slowestMs = 0
  #computeMs = 0
  /** The shortest time of a token that was not computing, lately and before. */
  #wayMs = { recent: Number.POSITIVE_INFINITY, before: Number.POSITIVE_INFINITY, tokens: 0 }
  /** What a token that is certain waits for others' steps. */
  #waitMs = 0
  /** Guesses less than fit, because of that. */
  #less = 0
  #tokens = 0
  #lastAtMs: number | undefined
  /** Between two tokens without guesses. */
  #plainMs: number | undefined
  #block: { sinceMs: number; tokens: number } | undefined
  #restTokens = 0
  #restBlocks = 1

  /** Share of guesses that held lately. */
  get acceptance(): number {
    return this.#acceptance
  }

  /** Guesses that may be under way behind the token that is certain. */
  get guesses(): number {
    if (this.#tokens < PLAIN_TOKENS || this.#restTokens > 0 || this.#busy) return 0
    if (this.#acceptance < LEAST_CHANCE) return 0
    const useful = Math.max(1, Math.floor(Math.log(LEAST_CHANCE) / Math.log(this.#acceptance)))
    return Math.max(1, Math.min(this.#fitting, useful, MAX_GUESSES) - this.#less)
  }

  /** Whether the draft is to be asked for the next token, to see how good it is, though none is fed. */
  get probes(): boolean {
    return this.#tokens < PLAIN_TOKENS || this.#tokens % PROBE_TOKENS === 0
  }

  /** A guess was right or wrong, whether it was fed or not. */
  judged(right: boolean): void {
    this.#acceptance += NEWEST * ((right ? 1 : 0) - this.#acceptance)
  }

  /**
   * A token came back.
   *
   * @param speculated guesses were under way with it
   */
  drawn(nowMs: number, speculated: boolean): void {
    const tookMs = nowMs - (this.#lastAtMs ?? nowMs)
    const first = this.#lastAtMs === undefined
    this.#lastAtMs = nowMs
    this.#tokens++
    if (this.#restTokens > 0) this.#restTokens--
    if (!speculated) {
      this.#block = undefined
      if (!first) this.#plainMs = mean(this.#plainMs, tookMs)
      return
    }
    this.#block ??= { sinceMs: nowMs, tokens: -1 }
    this.#block.tokens++
    if (this.#block.tokens === BLOCK_TOKENS) this.#weigh(nowMs, this.#block.sinceMs)
  }

  /**
   * What the stages took for a token.
   *
   * @param receivedAtMs when it came back, in ms since the epoch
   * @param certain it was behind no guess: what it waited for was in its way
   */
  timed(timings: readonly StageTiming[], receivedAtMs: number, certain: boolean): void {
    const [first] = timings
    if (first === undefined) return
    const computeMs = timings.map(timing => timing.computeMs)
    const sumMs = computeMs.reduce((sum, ms) => sum + ms, 0)
    const wayMs = receivedAtMs - first.arrivedAtMs - sumMs
    this.#slowestMs = mean(this.#slowestMs || undefined, Math.max(...computeMs))
    this.#computeMs = mean(this.#computeMs || undefined, sumMs)
    this.#noteWay(wayMs)
    if (!certain) return
    this.#waitMs = mean(this.#waitMs, wayMs - this.#shortestWayMs)
    if (this.#waitMs > this.#slowestMs / 2 && this.#less + 1 < this.#fitting) {
      this.#less++
      // What is under way already waits as before.
      this.#waitMs = this.#slowestMs / 4
    } else if (this.#waitMs < this.#slowestMs / 8 && this.#less > 0) {
      this.#less--
      this.#waitMs = this.#slowestMs / 4
    }
  }

  /** With one guess under way none is in the way of another token: what it waits for is others' steps. */
  get #busy(): boolean {
    return this.#slowestMs >= LEAST_STEP_MS && this.#waitMs > this.#slowestMs
  }

  /** Guesses that the stages can compute while the token before them is on its way. */
  get #fitting(): number {
    if (this.#slowestMs <= 0) return 1
    return Math.max(1, Math.round((this.#computeMs + this.#shortestWayMs) / this.#slowestMs) - 1)
  }

  get #shortestWayMs(): number {
    return Math.min(this.#wayMs.recent, this.#wayMs.before)
  }

  #noteWay(ms: number): void {
    const way = this.#wayMs
    way.recent = Math.min(way.recent, Math.max(0, ms))
    if (++way.tokens < WAYS_TOKENS) return
    this.#wayMs = { recent: Number.POSITIVE_INFINITY, before: way.recent, tokens: 0 }
  }

  /** Looks whether tokens came faster than without guesses. */
  #weigh(nowMs: number, sinceMs: number): void {
    this.#block = undefined
    const tokenMs = (nowMs - sinceMs) / BLOCK_TOKENS
    if (this.#plainMs === undefined || tokenMs < this.#plainMs) {
      this.#restBlocks = 1
      return
    }
    this.#restTokens = this.#restBlocks * BLOCK_TOKENS
    this.#restBlocks = Math.min(2 * this.#restBlocks, MAX_REST_BLOCKS)
  }
}

function mean(before: number | undefined, newest: number): number {
  return before === undefined ? newest : before + NEWEST * (newest - before)
}
