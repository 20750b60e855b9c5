import type { Priority } from '../../api.ts'
import { PRIORITY_HEAD_START_MS } from '../../constants.ts'

/** The right to open the next session. */
export interface Turn {
  /** Lets answers that have begun go first where any waits; resolves when it is this one's turn again. */
  letBegunPass(signal: AbortSignal): Promise<void>
  /** Lets the next one have its turn. */
  giveBack(): void
}

interface Place {
  begun: boolean
  /** When it came, less its head start. */
  atMs: number
  start: () => void
}

/**
 * Requests that wait to open a session, one at a time in the order in which they came, where those of a priority count as come
 * sooner or later by a fixed time: so none waits without end, whatever comes behind it. An answer of which a part is out
 * already, and that has lost a stage, goes before those that have not begun.
 */
export class Line {
  readonly #now: () => number
  readonly #places: Place[] = []
  #taken = false

  /** @param now - milliseconds from any fixed moment */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now
  }

  /** Requests that stand in line, and the one whose turn it is. */
  get length(): number {
    return this.#places.length + (this.#taken ? 1 : 0)
  }

  async take(
    signal: AbortSignal,
    { begun, priority = 'normal' }: { begun: boolean; priority?: Priority | undefined }
  ): Promise<Turn> {
    const atMs = this.#now() - PRIORITY_HEAD_START_MS[priority]
    await this.#enter(signal, { begun, atMs, at: begun ? this.#firstNotBegun : this.#firstBehind(atMs) })
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
        await this.#enter(again, { begun, atMs, at: this.#firstNotBegun })
        held = true
      }
    }
  }

  /** Index behind every place of an answer that has begun. */
  get #firstNotBegun(): number {
    return this.#places.filter(({ begun }) => begun).length
  }

  /** Index of the first that has not begun and counts as come later. */
  #firstBehind(atMs: number): number {
    const behind = this.#places.findIndex(place => !place.begun && place.atMs > atMs)
    return behind < 0 ? this.#places.length : behind
  }

  async #enter(
    signal: AbortSignal,
    { begun, atMs, at }: { begun: boolean; atMs: number; at: number }
  ): Promise<void> {
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
      const place = { begun, atMs, start }
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
