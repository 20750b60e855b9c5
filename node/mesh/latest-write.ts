import { logger } from '../../models/log.ts'

const log = logger('edgeshard:mesh')

/**
 * Writes one file again and again, each time as it is to be then: one write after the other, and however often it is asked for
 * meanwhile, one more. Where all devices of a mesh start at once, hundreds of changes are a few writes.
 */
export class LatestWrite {
  readonly #write: () => Promise<void>
  #last: Promise<void> = Promise.resolve()
  /** Asked for, and not begun. */
  #waiting: Promise<void> | undefined

  /** @param write - what counts at the time of the call */
  constructor(write: () => Promise<void>) {
    this.#write = write
  }

  /** Resolves, or rejects, with a write that has begun after the call. */
  ask(): Promise<void> {
    this.#waiting ??= this.#last
      .catch(log.passOver('the write before this one failed, which its caller has heard'))
      .then(() => {
        this.#last = this.#waiting!
        this.#waiting = undefined
        return this.#write()
      })
    return this.#waiting
  }

  /** The last write that was asked for. */
  get last(): Promise<void> {
    return this.#waiting ?? this.#last
  }
}
