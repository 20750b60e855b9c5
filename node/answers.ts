import { logger } from '../models/log.ts'
import { AcceptedRequest } from './accepted-request.ts'
import type { GenerateEvent } from './api.ts'
import { errorCodeOf } from './error-codes.ts'

const log = logger('edgeshard:source')

/** What an observer hears of one answer. */
export interface AnswerObserver {
  onEvent(event: GenerateEvent): void
  /** Called once. `outcome` is the finish reason, `cancelled`, or the code of `error`, which ended it. */
  onEnd(outcome: string, error?: unknown): void
}

/** Lets observers watch all answers of a node, over HTTP and in this process, without being in their way. */
export class Answers {
  readonly #watchers = new Set<() => AnswerObserver>()
  #running = 0
  #accepted = 0

  /** Answers that are being made now. */
  get running(): number {
    return this.#running
  }

  /** Requests that are not over, though none of their answers may be made now. */
  get accepted(): number {
    return this.#accepted
  }

  /** A request of several answers begins. */
  accept(): AcceptedRequest {
    this.#accepted++
    return new AcceptedRequest(() => void this.#accepted--)
  }

  /** Calls `begin` for each answer from now on; the function ends that. */
  watch(begin: () => AnswerObserver): () => void {
    this.#watchers.add(begin)
    return () => this.#watchers.delete(begin)
  }

  /** Counts what is computed for a client beside answers, as one that runs. */
  async during<T>(work: Promise<T>): Promise<T> {
    this.#running++
    try {
      return await work
    } finally {
      this.#running--
    }
  }

  /** Passes an answer's events on, and tells of them: `own`, which watches this one alone, too. */
  async *told(
    events: AsyncGenerator<GenerateEvent>,
    ...own: AnswerObserver[]
  ): AsyncGenerator<GenerateEvent> {
    const observers = [...own, ...[...this.#watchers].map(begin => begin())]
    let outcome = 'cancelled'
    let failure: unknown
    this.#running++
    try {
      for await (const event of events) {
        tell(observers, observer => observer.onEvent(event))
        if (event.type === 'done') outcome = event.result.finishReason
        yield event
      }
    } catch (error) {
      if (!(error instanceof Error && error.name === 'AbortError')) outcome = errorCodeOf(error)
      failure = error
      throw error
    } finally {
      this.#running--
      tell(observers, observer => observer.onEnd(outcome, failure))
    }
  }
}

/** An observer that fails must not end the answer. */
function tell(observers: readonly AnswerObserver[], what: (observer: AnswerObserver) => void): void {
  for (const observer of observers) {
    try {
      what(observer)
    } catch (error) {
      log.passOver('an observer of an answer failed; the answer goes on')(error)
    }
  }
}
