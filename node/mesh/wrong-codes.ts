/** Wrong codes of all openings within PERIOD_MS: each has one chance of 10^6, so all of an hour have 15. */
export const MAX_WRONG_CODES = 15
const PERIOD_MS = 3600_000

/** The wrong codes that a member was shown lately, in all openings together. */
export class WrongCodes {
  readonly #nowMs: () => number
  #atMs: number[] = []

  /** @param nowMs - a clock of any beginning, ms */
  constructor(nowMs: () => number) {
    this.#nowMs = nowMs
  }

  add(): void {
    this.#atMs.push(this.#nowMs())
  }

  /** How long pairing stays closed, ms; 0 where it may be opened. */
  get waitMs(): number {
    const nowMs = this.#nowMs()
    this.#atMs = this.#atMs.filter(atMs => nowMs - atMs < PERIOD_MS)
    return this.#atMs.length < MAX_WRONG_CODES ? 0 : this.#atMs[0]! + PERIOD_MS - nowMs
  }
}
