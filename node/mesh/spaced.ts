/** Does something when asked, at most once in `pauseMs`: what is asked for meanwhile is done once, after the pause. */
export class Spaced {
  readonly #pauseMs: number
  readonly #act: () => void
  #lastMs = Number.NEGATIVE_INFINITY
  #timer: NodeJS.Timeout | undefined

  constructor(pauseMs: number, act: () => void) {
    this.#pauseMs = pauseMs
    this.#act = act
  }

  ask(): void {
    if (this.#timer !== undefined) return
    const waitMs = this.#lastMs + this.#pauseMs - performance.now()
    if (waitMs <= 0) this.#run()
    else this.#timer = setTimeout(() => this.#run(), waitMs)
  }

  /** Something else has done what was asked for: the pause does not end with it. */
  isDone(): void {
    this.stop()
    this.#timer = undefined
  }

  stop(): void {
    clearTimeout(this.#timer)
  }

  #run(): void {
    this.#timer = undefined
    this.#lastMs = performance.now()
    this.#act()
  }
}
