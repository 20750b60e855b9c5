import { OPEN_STREAM_TIMEOUT_MS } from '../../protocols/constants.ts'

/** A connection that was waited for is not ended before it could be used. */
const KEEP_MS = 10_000

/** Connections that somebody waits for: to devices that are known by what others handed on. */
export class Reach {
  readonly #waiting = new Map<string, Set<() => void>>()
  readonly #askedAtMs = new Map<string, number>()
  readonly #dial: (peerId: string) => void

  /** @param dial - begins to connect a device; may be called again while that is under way */
  constructor(dial: (peerId: string) => void) {
    this.#dial = dial
  }

  /** Whether a connection to the device is waited for, or was a moment ago. */
  isWanted(peerId: string): boolean {
    return performance.now() - (this.#askedAtMs.get(peerId) ?? Number.NEGATIVE_INFINITY) < KEEP_MS
  }

  /** A device is connected and was met. */
  came(peerId: string): void {
    for (const come of this.#waiting.get(peerId) ?? []) come()
  }

  /** Resolves when the device is there, the signal ends the wait, or it has taken too long: the caller looks which. */
  async connect(peerId: string, signal?: AbortSignal): Promise<void> {
    const now = performance.now()
    for (const [asked, atMs] of this.#askedAtMs) if (now - atMs > KEEP_MS) this.#askedAtMs.delete(asked)
    this.#askedAtMs.set(peerId, now)
    const waiting = this.#waiting.get(peerId) ?? new Set()
    this.#waiting.set(peerId, waiting)
    const { promise, resolve } = Promise.withResolvers<void>()
    const timer = setTimeout(resolve, OPEN_STREAM_TIMEOUT_MS)
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
}
