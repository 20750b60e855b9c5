import { randomInt } from 'node:crypto'
import { CODE_DIGITS } from '../../protocols/pairing/index.ts'

/** How long a code is taken: a person walks to the other device and types. */
export const OPENING_MS = 2 * 60_000
/** Wrong codes until an opening ends. */
export const MAX_TRIES = 3
/** Runs until it ends, whatever comes of them: each costs some milliseconds of this process, and says nothing of the code. */
export const MAX_RUNS = 64

/** Why an opening has ended. */
export type OpeningEnd = 'paired' | 'failed' | 'expired' | 'tries' | 'closed'

/** The code that a member shows, and what is left of it. Without network and clock of its own. */
export class Opening {
  /** Six digits, each as likely as any. */
  readonly code = String(randomInt(10 ** CODE_DIGITS)).padStart(CODE_DIGITS, '0')
  readonly #endsAtMs: number
  readonly #nowMs: () => number
  #triesLeft = MAX_TRIES
  #runs = 0
  #isTaken = false
  #end: OpeningEnd | undefined

  /** @param nowMs - a clock of any beginning, ms */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
    this.#endsAtMs = nowMs() + OPENING_MS
  }

  /** How it ended; undefined until then. */
  get end(): OpeningEnd | undefined {
    if (this.#end === undefined && !this.#isTaken && this.leftMs === 0) this.#end = 'expired'
    return this.#end
  }

  /** Whether the code is good for a device that shows it. */
  get isLive(): boolean {
    return this.end === undefined && !this.#isTaken
  }

  get triesLeft(): number {
    return this.#triesLeft
  }

  get leftMs(): number {
    return Math.max(0, this.#endsAtMs - this.#nowMs())
  }

  /** A device begins a run; one too many ends the opening. */
  began(): void {
    if (++this.#runs > MAX_RUNS && !this.#isTaken) this.close('tries')
  }

  /** A device has shown another code. */
  wrong(): void {
    this.#triesLeft--
    if (this.#triesLeft <= 0 && !this.#isTaken) this.close('tries')
  }

  /** A device has shown the code, which is nobody else's then; what comes of that is the end. */
  take(): void {
    this.#isTaken = true
  }

  /** The first end counts. */
  close(end: OpeningEnd): void {
    this.#end ??= end
  }
}
