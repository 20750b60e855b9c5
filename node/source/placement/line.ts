/** The right to open the next session. */
export interface Turn {
  /** Lets answers that have begun go first where any waits; resolves when it is this one's turn again. */
  letBegunPass(signal: AbortSignal): Promise<void>
  /** Lets the next one have its turn. */
  giveBack(): void
}

interface Place {
  begun: boolean
  start: () => void
}

/**
 * Requests that wait to open a session, one at a time in the order in which they came. An answer of which a part is out
 * already, and that has lost a stage, goes before those that have not begun.
 */
export class Line {
  readonly #places: Place[] = []
  #taken = false

  /** Requests that stand in line, and the one whose turn it is. */
  get length(): number {
    return this.#places.length + (this.#taken ? 1 : 0)
  }

  async take(signal: AbortSignal, { begun }: { begun: boolean }): Promise<Turn> {
    await this.#enter(signal, { begun, at: begun ? this.#firstNotBegun : this.#places.length })
    let held = true
    const giveBack = () => {
      if (!held) return
      held = false
      this.#next()
    }
    return {
      giveBack,
      letBegunPass: async again => {
        if (begun || this.#firstNotBegun === 0) return
        giveBack()
        await this.#enter(again, { begun, at: this.#firstNotBegun })
        held = true
      }
    }
  }

  /** Index behind every place of an answer that has begun. */
  get #firstNotBegun(): number {
    return this.#places.filter(({ begun }) => begun).length
  }

  async #enter(signal: AbortSignal, { begun, at }: { begun: boolean; at: number }): Promise<void> {
    signal.throwIfAborted()
    if (!this.#taken) {
      this.#taken = true
      return
    }
    await new Promise<void>((resolve, reject) => {
      const leave = () => {
        this.#places.splice(this.#places.indexOf(place), 1)
        reject(signal.reason)
      }
      const start = () => {
        signal.removeEventListener('abort', leave)
        resolve()
      }
      const place = { begun, start }
      signal.addEventListener('abort', leave, { once: true })
      this.#places.splice(at, 0, place)
    })
  }

  #next(): void {
    const next = this.#places.shift()
    this.#taken = next !== undefined
    next?.start()
  }
}
