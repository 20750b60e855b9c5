import { logger } from '../../models/log.ts'
import { delay } from '../delay.ts'

const log = logger('edgeshard:stage')

/**
 * What is on its way out of a device's memory. A lease that has ended costs nothing any more, while its layers and KV caches may wait
 * for the end of a load or a step. The pools of several processors share one where what the one gives back the other may promise.
 */
export class Leaving {
  readonly #work = new Set<Promise<unknown>>()

  /** Something that ended leases held is freed when this settles: nothing new is allocated before. */
  add(work: Promise<unknown>): void {
    const settled = work
      .catch(log.passOver('freeing memory failed; whoever let go of it was told'))
      .finally(() => this.#work.delete(settled))
    this.#work.add(settled)
  }

  /** Settles once what is on its way now has left; undefined where nothing is. Never rejects. */
  get gone(): Promise<unknown> | undefined {
    return this.#work.size === 0 ? undefined : Promise.allSettled([...this.#work])
  }

  /** @returns false where what is on its way now has not left in time */
  async within(waitMs: number, signal: AbortSignal): Promise<boolean> {
    const { gone } = this
    if (gone === undefined) return true
    const settled = new AbortController()
    try {
      return await Promise.race([
        gone.then(() => true),
        delay(waitMs, AbortSignal.any([signal, settled.signal])).then(() => false)
      ])
    } finally {
      settled.abort()
    }
  }
}
