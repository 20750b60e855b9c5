import type { LeaseRequest } from './lease-room.ts'

/** Sources that stand so at once, and how often one of them does; one too many asks for memory like any other. */
const MAX_STANDING = 256
const MAX_STANDING_PER_SOURCE = 2
/** Two sources that ask within such a time may come in another order to each device; the order of their ids is the same on all. */
const SAME_MS = 1_000

export interface Stander {
  /** The leases that it wants, all of one source and model. */
  requests: readonly LeaseRequest[]
  /** Since when, as this node has seen it. */
  sinceMs: number
  untilMs: number
}

interface Standing extends Stander {
  isTold: boolean
  tell(): void
  leave(): void
}

/**
 * Sources that need memory of more devices than this one, and take none anywhere before they are the first on each. They stand
 * beside the line and hold up nobody in it. One is told when it is the first, once; so is another that comes later and is before it,
 * as one does that has stepped aside for a moment: if it waited for the one that was told, and that one waits elsewhere, those that want
 * several devices would hardly ever get them. So two may be told, and each take a device that the other waits for, until their wait ends.
 */
export class Standings {
  readonly #standing = new Set<Standing>()

  /**
   * A source comes to stand here, until `signal` aborts.
   *
   * @param onAside called when it goes by that
   * @returns true once it is the first, false when it goes before that, or its time is over
   */
  enter(who: Stander, signal: AbortSignal | undefined, onAside: () => void): Promise<boolean> {
    const source = sourceOf(who)
    const ofSource = [...this.#standing].filter(other => sourceOf(other) === source).length
    if (signal?.aborted || this.#standing.size >= MAX_STANDING || ofSource >= MAX_STANDING_PER_SOURCE)
      return Promise.resolve(false)
    return new Promise(resolve => {
      const leave = () => {
        signal?.removeEventListener('abort', stepAside)
        this.#standing.delete(standing)
        resolve(false)
      }
      const stepAside = () => {
        leave()
        onAside()
      }
      const standing: Standing = { ...who, isTold: false, tell: () => resolve(true), leave }
      signal?.addEventListener('abort', stepAside, { once: true })
      this.#standing.add(standing)
    })
  }

  /**
   * Tells the one that is the first now, where nobody in the line has wanted memory for longer.
   *
   * @param inLineMs - since when the first of the line wants memory; Infinity: there is none
   * @param fits - whether requests would have room beside what others are about to use
   * @returns who was told
   */
  look(inLineMs: number, fits: (requests: readonly LeaseRequest[]) => boolean): Stander | undefined {
    const [first] = [...this.#standing].sort(inOrder)
    if (first === undefined || first.isTold || first.sinceMs > inLineMs || !fits(first.requests))
      return undefined
    first.isTold = true
    first.tell()
    return first
  }

  /** Sends away who wants what there will never be: it would be the first for as long as it stands, and never be told. */
  refuse(isNever: (requests: readonly LeaseRequest[]) => boolean): void {
    for (const { requests, leave } of this.#standing) if (isNever(requests)) leave()
  }

  expire(nowMs: number): void {
    for (const { untilMs, leave } of this.#standing) if (untilMs <= nowMs) leave()
  }
}

function sourceOf({ requests }: Stander): string {
  return requests[0]?.source ?? ''
}

function inOrder(a: Standing, b: Standing): number {
  const [aSpan, bSpan] = [a, b].map(({ sinceMs }) => Math.floor(sinceMs / SAME_MS)) as [number, number]
  return aSpan - bSpan || (sourceOf(a) < sourceOf(b) ? -1 : 1)
}
