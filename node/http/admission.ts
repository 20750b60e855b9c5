import { HttpError } from './errors.ts'

/** Counts what runs at the same time and refuses more than a limit. */
export class Admission {
  readonly limit: number
  readonly #what: string
  #active = 0

  constructor(limit: number, what: string) {
    this.limit = limit
    this.#what = what
  }

  get active(): number {
    return this.#active
  }

  /** Takes up to so many places, and one at least; the function gives them back, once. */
  enterSome(most: number): { places: number; leave: () => void } {
    const leaves = [this.enter()]
    while (leaves.length < most && this.#active < this.limit) leaves.push(this.enter())
    const leave = () => {
      for (const each of leaves) each()
    }
    return { places: leaves.length, leave }
  }

  /** Takes a place; the function gives it back, once. */
  enter(): () => void {
    if (this.#active >= this.limit) {
      throw new HttpError(
        'too_many_requests',
        `this node already has ${this.limit} ${this.#what}; try again soon`
      )
    }
    this.#active++
    let left = false
    return () => {
      if (!left) this.#active--
      left = true
    }
  }
}
