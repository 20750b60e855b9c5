import type { Value } from './values.ts'

/** Names and what they stand for; a turn of a loop and a macro have their own, inside another's. */
export class Scope {
  readonly #names = new Map<string, Value>()
  readonly #outer: Scope | undefined

  constructor(outer?: Scope) {
    this.#outer = outer
  }

  /** undefined for a name that nobody has set. */
  get(name: string): Value {
    return this.#names.has(name) ? this.#names.get(name) : this.#outer?.get(name)
  }

  set(name: string, value: Value): void {
    this.#names.set(name, value)
  }
}
