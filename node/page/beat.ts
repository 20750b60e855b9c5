/** The shortest time between two drawings: nobody reads faster. */
const BEAT_MS = 100

/**
 * When the page is drawn: whatever comes in between two beats is put into its stores together, so that it is drawn once
 * for all of it. What comes after a pause waits for nothing.
 */
export class Beat {
  readonly intervalMs = BEAT_MS
  readonly #due = new Set<() => void>()
  #isSet = false
  #nextMs = 0

  /** Has `work` done at the next beat, once, however often that is asked for until then. */
  soon(work: () => void): void {
    this.#due.add(work)
    if (this.#isSet) return
    this.#isSet = true
    setTimeout(() => this.#do(), Math.max(0, this.#nextMs - performance.now()))
  }

  /** Takes that back. */
  drop(work: () => void): void {
    this.#due.delete(work)
  }

  #do(): void {
    this.#isSet = false
    this.#nextMs = performance.now() + BEAT_MS
    const due = [...this.#due]
    this.#due.clear()
    for (const work of due) work()
  }
}
