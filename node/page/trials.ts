import type { Plan, Refusal } from '../plan/problem.ts'
import { Store } from './store.ts'
import type { Change } from './what-if.ts'

/** While changes go on, so often at most a plan for them is asked for. */
const ASK_EVERY_MS = 100

/** What the planner says of changes, or why it says nothing. */
export interface Tried {
  changes: readonly Change[]
  result?: Plan | Refusal
  problem?: string
}

/**
 * Plans for changes that go on while a person drags: one after another, each for what is wanted when the one before is there. What is
 * wanted last is answered last.
 */
export class Trials {
  readonly answer = new Store<Tried | undefined>(undefined)
  readonly #ask: (changes: readonly Change[], signal: AbortSignal) => Promise<Plan | Refusal>
  readonly #abort = new AbortController()
  #wanted: readonly Change[] | undefined
  #isAsking = false

  constructor(ask: (changes: readonly Change[], signal: AbortSignal) => Promise<Plan | Refusal>) {
    this.#ask = ask
  }

  /** Has these changes planned for; undefined: none, and what was said before is forgotten. */
  want(changes: readonly Change[] | undefined): void {
    this.#wanted = changes
    if (changes === undefined) this.answer.set(undefined)
    else if (!this.#isAsking) void this.#go()
  }

  stop(): void {
    this.#abort.abort()
  }

  async #go(): Promise<void> {
    this.#isAsking = true
    let asked: readonly Change[] | undefined
    while (this.#wanted !== undefined && this.#wanted !== asked) {
      asked = this.#wanted
      const answer = await this.#tried(asked)
      if (this.#abort.signal.aborted) break
      if (this.#wanted !== undefined) this.answer.set(answer)
      await new Promise(resolve => setTimeout(resolve, ASK_EVERY_MS))
    }
    this.#isAsking = false
  }

  async #tried(changes: readonly Change[]): Promise<Tried> {
    try {
      return { changes, result: await this.#ask(changes, this.#abort.signal) }
    } catch (error) {
      return { changes, problem: error instanceof Error ? error.message : String(error) }
    }
  }
}
