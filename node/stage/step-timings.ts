import type { StageTiming } from '../../protocols/stage/frame.ts'

/** Steps of one session that may be on their way through all stages: more than any source feeds without an answer. */
const KEPT_STEPS = 256

/** What the last steps of a session took, by their positions. */
export class StepTimings {
  /** The oldest first. */
  readonly #timings = new Map<number, StageTiming>()

  at(position: number): StageTiming | undefined {
    return this.#timings.get(position)
  }

  /** Of the step that was computed last. */
  set(position: number, timing: StageTiming): void {
    this.#timings.delete(position)
    this.#timings.set(position, timing)
    if (this.#timings.size > KEPT_STEPS) this.#timings.delete(this.#timings.keys().next().value!)
  }
}
