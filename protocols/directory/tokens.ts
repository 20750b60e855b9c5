/** An allowance that fills up again as time passes: so much at once, so much a second in the long run. */
export class Tokens {
  readonly #burst: number
  readonly #perSecond: number
  #left: number
  #atMs: number

  constructor(burst: number, perSecond: number, nowMs: number) {
    this.#burst = burst
    this.#perSecond = perSecond
    this.#left = burst
    this.#atMs = nowMs
  }

  /** Whether so much may be taken now. */
  has(amount: number, nowMs: number): boolean {
    this.#fill(nowMs)
    return this.#left >= amount
  }

  /** Takes so much, where it is there. @returns whether it was */
  take(amount: number, nowMs: number): boolean {
    if (!this.has(amount, nowMs)) return false
    this.#left -= amount
    return true
  }

  /** Takes so much, though it may be more than is there: what comes next waits for it. */
  spend(amount: number, nowMs: number): void {
    this.#fill(nowMs)
    this.#left -= amount
  }

  /** How long it is until so much is there, in ms; 0: it is. */
  waitMs(amount: number, nowMs: number): number {
    this.#fill(nowMs)
    return Math.max(0, ((amount - this.#left) / this.#perSecond) * 1000)
  }

  #fill(nowMs: number): void {
    const passedMs = Math.max(0, nowMs - this.#atMs)
    this.#left = Math.min(this.#burst, this.#left + (passedMs * this.#perSecond) / 1000)
    this.#atMs = nowMs
  }
}
