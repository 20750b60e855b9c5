import type { StageTiming } from '../../../protocols/stage/frame.ts'
import { usefulGuesses } from '../../plan/useful-guesses.ts'

/** Guesses under way at most, however long the links are. */
export const MAX_GUESSES = 32
/** What a draft is taken to be worth before it has guessed. */
const FIRST_ACCEPTANCE = 0.4
/** What earlier answers say at most: nothing is certain of the next one. */
const MOST_ACCEPTANCE = 0.98
/** Weight of the newest guess, and of the newest time. */
const NEWEST = 1 / 8
/** Tokens that are compared for the shortest time: what links and threads take when nothing is before a step. */
const SHORTEST_TOKENS = 32
/** The time below which what a step waits says more of the machine than of other steps. */
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
  #acceptance: number
  /** Time of the slowest stage, and of all together, for one token. */
  #slowestMs = 0
  #computeMs = 0
  /** What the ways between the stages take, and the stages without computing, where nothing is before a step. */
  readonly #waysMs = new Shortest()
  readonly #turnsMs = new Shortest()
  /** What a token that is certain waits for its turns. */
  #turnMs = 0
  /** What it takes longer than it could: where nothing of its answer was before it, and behind what wrong guesses have left. */
  #lateMs = { clear: 0, behind: 0 }
  /** Guesses less than fit, because of that. */
  #less = 0
  #tokens = 0
  #lastAtMs: number | undefined
  /** Between two tokens without guesses. */
  #plainMs: number | undefined
  #block: { sinceMs: number; tokens: number } | undefined
  #restTokens = 0
  #restBlocks = 1

  /** @param acceptance share of the draft's guesses that held in earlier answers, where that is known */
  constructor(acceptance = FIRST_ACCEPTANCE) {
    this.#acceptance = Math.min(acceptance, MOST_ACCEPTANCE)
  }

  /** Share of guesses that held lately. */
  get acceptance(): number {
    return this.#acceptance
  }

  /** Guesses that may be under way behind the token that is certain. */
  get guesses(): number {
    if (this.#tokens < PLAIN_TOKENS || this.#restTokens > 0 || this.#busy) return 0
    const useful = usefulGuesses(this.#acceptance)
    if (useful === 0) return 0
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
   * @param certain of a token that followed no guess: whether steps of wrong guesses were before it
   */
  timed(timings: readonly StageTiming[], receivedAtMs: number, certain?: 'clear' | 'behind'): void {
    const [first] = timings
    if (first === undefined) return
    const computeMs = timings.map(timing => timing.computeMs)
    const sumMs = computeMs.reduce((sum, ms) => sum + ms, 0)
    const spentMs = timings.reduce((sum, { arrivedAtMs, sentAtMs }) => sum + sentAtMs - arrivedAtMs, 0)
    const stepMs = receivedAtMs - first.arrivedAtMs
    this.#slowestMs = mean(this.#slowestMs || undefined, Math.max(...computeMs))
    this.#computeMs = mean(this.#computeMs || undefined, sumMs)
    this.#waysMs.note(stepMs - spentMs)
    this.#turnsMs.note(spentMs - sumMs)
    if (certain === undefined) return
    const turnMs = spentMs - sumMs - this.#turnsMs.ms
    const wayMs = stepMs - spentMs - this.#waysMs.ms
    this.#turnMs = mean(this.#turnMs, turnMs)
    this.#lateMs[certain] = mean(this.#lateMs[certain], turnMs + wayMs)
    if (certain === 'behind') this.#adapt()
  }

  /** Feeds fewer guesses at once where a wrong one is in the way of the right token, and more again where it is not. */
  #adapt(): void {
    const { clear, behind } = this.#lateMs
    const less = behind - clear > this.#slowestMs / 2 && this.#less + 1 < this.#fitting
    const more = behind - clear < this.#slowestMs / 8 && this.#less > 0
    if (!less && !more) return
    this.#less += less ? 1 : -1
    // What is under way already waits as before.
    this.#lateMs.behind = clear + this.#slowestMs / 4
  }

  /** Others' steps are before this answer's, most of the time. */
  get #busy(): boolean {
    return this.#slowestMs >= LEAST_STEP_MS && this.#turnMs > this.#slowestMs
  }

  /** Guesses that the stages can compute while the token before them is on its way. */
  get #fitting(): number {
    if (this.#slowestMs <= 0) return 1
    return Math.max(1, Math.round((this.#computeMs + this.#waysMs.ms) / this.#slowestMs) - 1)
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

/** The shortest of some times, of the last SHORTEST_TOKENS to twice as many. */
class Shortest {
  #recent = Number.POSITIVE_INFINITY
  #before = Number.POSITIVE_INFINITY
  #noted = 0

  get ms(): number {
    return Math.max(0, Math.min(this.#recent, this.#before))
  }

  note(ms: number): void {
    this.#recent = Math.min(this.#recent, ms)
    if (++this.#noted < SHORTEST_TOKENS) return
    this.#before = this.#recent
    this.#recent = Number.POSITIVE_INFINITY
    this.#noted = 0
  }
}

function mean(before: number | undefined, newest: number): number {
  return before === undefined ? newest : before + NEWEST * (newest - before)
}
