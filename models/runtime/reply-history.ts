import type { ReplySoFar } from './sampler.ts'

/**
 * The tokens of one reply as the stage that draws them knows them: what was known when its session was opened, and behind
 * it what was drawn, by position. So it needs no token from elsewhere, and follows a source that goes back to an earlier
 * position: where a guess that was fed turns out wrong, what was drawn behind it is forgotten with it.
 */
export class ReplyHistory {
  readonly #promptTokens: number
  readonly #known: number
  readonly #window: number
  /** Index in the reply of the first of `#ids`. */
  readonly #from: number
  readonly #ids: number[]
  /** How often each token is among the last ones of the reply's first `#length`, as many as the window has. */
  readonly #counts = new Map<number, number>()
  #length: number

  /** @param window the last so many tokens are counted */
  constructor({ promptTokens, knownTokens, lastIds }: ReplySoFar, window: number) {
    this.#promptTokens = promptTokens
    this.#known = knownTokens
    this.#window = window
    this.#from = knownTokens - lastIds.length
    this.#ids = [...lastIds]
    this.#length = this.#from
  }

  /** Tokens of the reply before the one that is drawn behind `position`; negative within the prompt. */
  lengthAt(position: number): number {
    return position + 1 - this.#promptTokens
  }

  /** How often each token is among the last ones before the one that is drawn behind `position`. Valid until the next call. */
  countsAt(position: number): ReadonlyMap<number, number> {
    this.#seek(Math.max(0, this.lengthAt(position)))
    return this.#counts
  }

  /** A token was drawn behind `position`. What was known from the beginning stays as it is, whatever is drawn in its place. */
  drawn(position: number, id: number): void {
    const index = this.lengthAt(position)
    if (index < this.#known) return
    this.#seek(index)
    this.#ids.length = index - this.#from
    this.#ids.push(id)
  }

  #seek(length: number): void {
    for (; this.#length < length; this.#length++) {
      this.#count(this.#length, 1)
      this.#count(this.#length - this.#window, -1)
    }
    for (; this.#length > length; this.#length--) {
      this.#count(this.#length - 1, -1)
      this.#count(this.#length - 1 - this.#window, 1)
    }
  }

  #count(index: number, by: 1 | -1): void {
    const id = this.#ids[index - this.#from]
    if (id === undefined) return
    const count = (this.#counts.get(id) ?? 0) + by
    if (count === 0) this.#counts.delete(id)
    else this.#counts.set(id, count)
  }
}
