/** One timing after the other: they would slow each other, whichever processor each is of. */
export class TimingTurns {
  #running: Promise<void> = Promise.resolve()

  async take(work: () => Promise<void>): Promise<void> {
    const turn = this.#running.then(work)
    // Whoever wants this one hears of it below; the next one has its turn all the same.
    this.#running = turn.catch(() => {})
    await turn
  }

  /** Resolves when nothing is timed any more. */
  async settled(): Promise<void> {
    await this.#running
  }
}
