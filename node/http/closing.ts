import { setTimeout as delay } from 'node:timers/promises'
import { StoppingError } from '../errors.ts'

/**
 * How a server ends: it takes nothing new, lets what runs come to its end for a while, and then ends it with a reason
 * that its client is told.
 */
export class Closing {
  readonly #running = new Set<(reason: Error) => void>()
  readonly #endless = new Set<() => void>()
  readonly #idle = Promise.withResolvers<void>()
  #begun = false
  #ended = false

  /** Answers under way. */
  get running(): number {
    return this.#running.size
  }

  /** False from the moment at which nothing new is taken. */
  get admits(): boolean {
    return !this.#begun
  }

  /** @throws {StoppingError} when the server takes nothing new */
  admit(): void {
    if (this.#begun) throw new StoppingError()
  }

  /** @throws {StoppingError} when what goes on without end is over, too: not while answers come to their end */
  admitEndless(): void {
    if (this.#ended) throw new StoppingError()
  }

  /**
   * An answer begins, which the server waits for when it ends.
   *
   * @param end ends it early
   * @returns what is to be called when it is over
   */
  begin(end: (reason: Error) => void): () => void {
    this.#running.add(end)
    return () => {
      this.#running.delete(end)
      if (this.#begun && this.#running.size === 0) this.#idle.resolve()
    }
  }

  /** The same for what goes on until its client leaves: nobody waits for that. */
  beginEndless(end: () => void): () => void {
    this.#endless.add(end)
    return () => this.#endless.delete(end)
  }

  /** Takes nothing new, and waits until what runs is over: for `graceMs`, or until the signal aborts. */
  async drain(graceMs: number, signal?: AbortSignal): Promise<void> {
    this.#begun = true
    if (this.#running.size === 0) return
    const over = new AbortController()
    const given = signal === undefined ? over.signal : AbortSignal.any([signal, over.signal])
    const late = delay(graceMs, undefined, { signal: given }).catch(() => {
      // It was over in time, or whoever waits has lost patience: both end the waiting.
    })
    await Promise.race([this.#idle.promise, late])
    over.abort()
  }

  /** Takes nothing new, and ends what runs. */
  end(): void {
    this.#begun = true
    this.#ended = true
    for (const end of [...this.#running]) end(new StoppingError())
    for (const end of [...this.#endless]) end()
  }
}
