import { OPEN_STREAM_TIMEOUT_MS } from '../../protocols/constants.ts'

/** A connection that was waited for is not ended before it could be used. */
const KEEP_MS = 10_000
/** A device that could not be connected when it was needed counts as out of reach for so long, then twice as long each time. */
const OUT_OF_REACH_MS = 30_000
const MAX_OUT_OF_REACH_MS = 10 * 60_000
const MAX_OUT_OF_REACH = 1024

/** Connections that somebody waits for: to devices that are known by what others handed on. */
export class Reach {
  readonly #waiting = new Map<string, Set<() => void>>()
  readonly #askedAtMs = new Map<string, number>()
  /** Devices that were needed and could not be connected: until when that counts, and for how long it did. */
  readonly #outOfReach = new Map<string, { untilMs: number; forMs: number }>()
  readonly #dial: (peerId: string) => void
  readonly #now: () => number

  /** @param dial - begins to connect a device; may be called again while that is under way */
  constructor(dial: (peerId: string) => void, now: () => number = () => performance.now()) {
    this.#dial = dial
    this.#now = now
  }

  /** Whether a connection to the device is waited for, or was a moment ago. */
  isWanted(peerId: string): boolean {
    return this.#now() - (this.#askedAtMs.get(peerId) ?? Number.NEGATIVE_INFINITY) < KEEP_MS
  }

  /** Whether a connection to the device was needed lately and could not be made: nothing new is planned on it. */
  isOutOfReach(peerId: string): boolean {
    return (this.#outOfReach.get(peerId)?.untilMs ?? 0) > this.#now()
  }

  /** A device is connected and was met. */
  came(peerId: string): void {
    this.#outOfReach.delete(peerId)
    this.#release(peerId)
  }

  /** A dial of a device failed: who waits for it hears of it at once. @returns whether somebody did */
  failed(peerId: string): boolean {
    if (!this.#waiting.has(peerId)) return false
    const forMs = Math.min(
      MAX_OUT_OF_REACH_MS,
      2 * (this.#outOfReach.get(peerId)?.forMs ?? OUT_OF_REACH_MS / 2)
    )
    this.#outOfReach.delete(peerId)
    this.#outOfReach.set(peerId, { forMs, untilMs: this.#now() + forMs })
    const [oldest] = this.#outOfReach.keys()
    if (this.#outOfReach.size > MAX_OUT_OF_REACH && oldest !== undefined) this.#outOfReach.delete(oldest)
    this.#release(peerId)
    return true
  }

  /** Resolves when the device is there, the signal ends the wait, or it has taken too long: the caller looks which. */
  async connect(peerId: string, signal?: AbortSignal): Promise<void> {
    const now = this.#now()
    for (const [asked, atMs] of this.#askedAtMs) if (now - atMs > KEEP_MS) this.#askedAtMs.delete(asked)
    this.#askedAtMs.set(peerId, now)
    const waiting = this.#waiting.get(peerId) ?? new Set()
    this.#waiting.set(peerId, waiting)
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(() => this.failed(peerId), OPEN_STREAM_TIMEOUT_MS)
    const onAbort = () => resolve()
    signal?.addEventListener('abort', onAbort, { once: true })
    waiting.add(resolve)
    this.#dial(peerId)
    if (signal?.aborted) resolve()
    await promise
    clearTimeout(timer)
    signal?.removeEventListener('abort', onAbort)
    waiting.delete(resolve)
    if (waiting.size === 0) this.#waiting.delete(peerId)
  }

  #release(peerId: string): void {
    for (const go of this.#waiting.get(peerId) ?? []) go()
  }
}
