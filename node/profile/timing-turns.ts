/** One timing after the other: they would slow each other, whichever processor each is of. */
export class TimingTurns {
  #running: Promise<void> = Promise.resolve()

  async take(work: () => Promise<void>): Promise<void> {
    const turn = this.#running.then(work)
    // An error is for the caller, who awaits this turn below; the next one has its turn all the same.
    this.#running = turn.catch(() => {})
    await turn
  }

  /** Resolves when nothing is timed any more. */
  async settled(): Promise<void> {
    await this.#running
  }
}
