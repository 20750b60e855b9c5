import { LimitExceededError } from '../errors.ts'
import { MAX_DIRECTORY_MESSAGES_PER_SECOND } from './constants.ts'

const SECOND_MS = 1000

/** Counts what each peer says, on whichever stream: opening another one must not begin the count anew. */
export class MessageRates {
  readonly #seconds = new Map<string, { startMs: number; messages: number }>()

  /** @throws {LimitExceededError} for one message too many */
  count(peerId: string): void {
    const now = performance.now()
    let second = this.#seconds.get(peerId)
    if (second === undefined || now - second.startMs > SECOND_MS) {
      this.#forgetBefore(now - SECOND_MS)
      second = { startMs: now, messages: 0 }
      this.#seconds.set(peerId, second)
    }
    if (++second.messages > MAX_DIRECTORY_MESSAGES_PER_SECOND) {
      throw new LimitExceededError(
        `more than ${MAX_DIRECTORY_MESSAGES_PER_SECOND} directory messages a second`
      )
    }
  }

  #forgetBefore(ms: number): void {
    for (const [peerId, { startMs }] of this.#seconds) if (startMs < ms) this.#seconds.delete(peerId)
  }
}
