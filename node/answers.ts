import type { GenerateEvent } from './api.ts'
import { errorCodeOf } from './error-codes.ts'

/** What an observer hears of one answer. */
export interface AnswerObserver {
  onEvent(event: GenerateEvent): void
  /** Called once. `outcome` is the finish reason, `cancelled`, or the code of `error`, which ended it. */
  onEnd(outcome: string, error?: unknown): void
}

/** Lets observers watch all answers of a node, over HTTP and in this process, without being in their way. */
export class Answers {
  readonly #watchers = new Set<() => AnswerObserver>()

  /** Calls `begin` for each answer from now on; the function ends that. */
  watch(begin: () => AnswerObserver): () => void {
    this.#watchers.add(begin)
    return () => this.#watchers.delete(begin)
  }

  /** Passes an answer's events on, and tells of them: `own`, which watches this one alone, too. */
  async *told(
    events: AsyncGenerator<GenerateEvent>,
    ...own: AnswerObserver[]
  ): AsyncGenerator<GenerateEvent> {
    const observers = [...own, ...[...this.#watchers].map(begin => begin())]
    let outcome = 'cancelled'
    let failure: unknown
    try {
      for await (const event of events) {
        for (const observer of observers) observer.onEvent(event)
        if (event.type === 'done') outcome = event.result.finishReason
        yield event
      }
    } catch (error) {
      if (!(error instanceof Error && error.name === 'AbortError')) outcome = errorCodeOf(error)
      failure = error
      throw error
    } finally {
      for (const observer of observers) observer.onEnd(outcome, failure)
    }
  }
}
