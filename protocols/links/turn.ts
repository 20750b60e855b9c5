import type { JsonStream } from '../json-stream.ts'

/** A node measures one link at a time, whichever side of it began: two would measure each other. */
export class MeasuringTurn {
  readonly #isBusy: () => boolean
  readonly #open = new Set<JsonStream>()
  #measuring = false

  /** @param isBusy - tokens flow */
  constructor(isBusy: () => boolean) {
    this.#isBusy = isBusy
  }

  /** True where nothing may be measured now. */
  get taken(): boolean {
    return this.#measuring || this.#isBusy()
  }

  /** True where this node takes part in a measurement. */
  get measuring(): boolean {
    return this.#measuring
  }

  /** True where an answer has begun meanwhile, which must not stand behind the rest of the bursts. */
  get interrupted(): boolean {
    return this.#isBusy()
  }

  async take<T>(work: () => Promise<T>): Promise<T> {
    this.#measuring = true
    try {
      return await work()
    } finally {
      this.#measuring = false
    }
  }

  /** Runs `work` on a stream, which ends with `until`, and with it everything that waits for it. */
  async during<T>(messages: JsonStream, until: AbortSignal, work: () => Promise<T>): Promise<T> {
    const onAbort = () => messages.abort(until.reason)
    until.addEventListener('abort', onAbort, { once: true })
    this.#open.add(messages)
    try {
      until.throwIfAborted()
      return await work()
    } catch (error) {
      messages.abort(error instanceof Error ? error : new Error(String(error)))
      throw until.aborted ? until.reason : error
    } finally {
      this.#open.delete(messages)
      until.removeEventListener('abort', onAbort)
    }
  }

  /** Ends every measurement. */
  stop(): void {
    for (const messages of this.#open) messages.abort(new Error('the node stops'))
  }
}
