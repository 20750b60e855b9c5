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
