import type { Plan, Refusal } from '../plan/problem.ts'
import type { ScenarioInput } from '../plan/scenario.ts'
import { type PlanRequest, PlanThread } from '../plan/thread.ts'
import { Admission } from './admission.ts'
import { MAX_PLANNINGS, PLANNING_DEADLINE_MS } from './constants.ts'
import { HttpError } from './errors.ts'

/** Plans for whoever asks, off the event loop: few at once, each with a deadline, after which its thread is ended. */
export class Planner {
  readonly #admission = new Admission(MAX_PLANNINGS, 'plans that it is working out')
  readonly #deadlineMs: number
  /** Has nothing to do, and is kept for the next. */
  #idle: PlanThread | undefined

  constructor({ deadlineMs = PLANNING_DEADLINE_MS }: { deadlineMs?: number } = {}) {
    this.#deadlineMs = deadlineMs
  }

  /**
   * @throws {ScenarioError} for what is no scenario, {HttpError} when others are being worked out or it takes too long,
   * and the signal's reason
   */
  async solve(
    scenario: ScenarioInput,
    options: PlanRequest['options'],
    signal: AbortSignal
  ): Promise<Plan | Refusal> {
    const leave = this.#admission.enter()
    const thread = this.#idle ?? new PlanThread()
    this.#idle = undefined
    const { promise: given, reject } = Promise.withResolvers<never>()
    const late = setTimeout(() => {
      reject(new HttpError('deadline', `planning took longer than ${this.#deadlineMs / 1000} s`))
    }, this.#deadlineMs)
    const gone = () => reject(signal.reason)
    signal.addEventListener('abort', gone, { once: true })
    try {
      signal.throwIfAborted()
      const solved = await Promise.race([thread.solve(scenario, options), given])
      if (this.#idle === undefined) this.#idle = thread
      return solved
    } catch (error) {
      await thread.stop()
      throw error
    } finally {
      if (this.#idle !== undefined && this.#idle !== thread) await thread.stop()
      clearTimeout(late)
      signal.removeEventListener('abort', gone)
      leave()
    }
  }

  /** Ends the thread that is kept; what is being worked out ends by its own signal. */
  stop(): void {
    void this.#idle?.stop()
    this.#idle = undefined
  }
}
