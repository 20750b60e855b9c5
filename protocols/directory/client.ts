import type { Stream } from '@libp2p/interface'
import { OPEN_STREAM_TIMEOUT_MS } from '../constants.ts'
import type { Transport } from '../transport.ts'
import { DIRECTORY_VIOLATION_MS, HEARTBEAT_MS } from './constants.ts'

export interface OpenerInit {
  transport: Transport
  /** Takes the stream that was opened. */
  run(stream: Stream, peerId: string): void
  /** The stream could not be opened; it is tried again. */
  onError(peerId: string, error: Error): void
}

/**
 * Opens the control stream to each peer that is present: that is for the one with the smaller id. One that ended is
 * opened again after a heartbeat's time, and to a peer that broke the protocol no sooner than it is listened to again.
 */
export class Opener {
  readonly #init: OpenerInit
  readonly #present = new Set<string>()
  readonly #open = new Set<string>()
  /** Present, but without a version of the protocol that this node speaks. */
  readonly #unable = new Set<string>()
  readonly #reopening = new Map<string, NodeJS.Timeout>()
  readonly #violators = new Map<string, NodeJS.Timeout>()
  #stopped = false

  constructor(init: OpenerInit) {
    this.#init = init
  }

  isPresent(peerId: string): boolean {
    return !this.#stopped && this.#present.has(peerId)
  }

  isShutOut(peerId: string): boolean {
    return this.#violators.has(peerId)
  }

  connected(peerId: string): void {
    this.#present.add(peerId)
    this.#unable.delete(peerId)
    if (this.#init.transport.peerId < peerId && !this.#open.has(peerId)) void this.#openTo(peerId)
  }

  disconnected(peerId: string): void {
    this.#present.delete(peerId)
    this.#unable.delete(peerId)
  }

  /** Nothing is opened to the peer any more; what it opens nevertheless is judged like any other's. */
  unable(peerId: string): void {
    if (this.#present.has(peerId)) this.#unable.add(peerId)
  }

  /** A control stream of the peer is in use, whichever side opened it. */
  began(peerId: string): void {
    this.#open.add(peerId)
  }

  ended(peerId: string): void {
    this.#open.delete(peerId)
    this.#reopenLater(peerId)
  }

  /** Nothing is heard of a peer that broke the protocol for a while: opening streams anew must not lift the limits. */
  shutOut(peerId: string): void {
    clearTimeout(this.#violators.get(peerId))
    const letIn = () => {
      this.#violators.delete(peerId)
      this.#reopenLater(peerId)
    }
    this.#violators.set(peerId, setTimeout(letIn, DIRECTORY_VIOLATION_MS))
  }

  stop(): void {
    this.#stopped = true
    for (const timer of [...this.#reopening.values(), ...this.#violators.values()]) clearTimeout(timer)
  }

  async #openTo(peerId: string): Promise<void> {
    const { transport, run, onError } = this.#init
    try {
      const signal = AbortSignal.timeout(OPEN_STREAM_TIMEOUT_MS)
      run(await transport.newStream(peerId, transport.protocols.directory, { signal }), peerId)
    } catch (error) {
      if (!this.isPresent(peerId) || this.#unable.has(peerId)) return
      onError(peerId, error as Error)
      this.#reopenLater(peerId)
    }
  }

  #reopenLater(peerId: string): void {
    if (!this.isPresent(peerId) || peerId < this.#init.transport.peerId) return
    if (this.isShutOut(peerId) || this.#unable.has(peerId)) return
    clearTimeout(this.#reopening.get(peerId))
    this.#reopening.set(
      peerId,
      setTimeout(() => {
        this.#reopening.delete(peerId)
        if (this.isPresent(peerId) && !this.#open.has(peerId)) void this.#openTo(peerId)
      }, HEARTBEAT_MS)
    )
  }
}
