import type { JsonStream } from '../json-stream.ts'

/** What a small measurement has of the turn at most: it goes on without it. */
export interface TurnLimits {
  /** Without a byte of the peer. */
  stallMs: number
  mostMs: number
}

/**
 * A node measures one link at a time, whichever side of it began: two would measure each other. One that comes to nothing meanwhile
 * measures nobody, so that it lets go of the turn, and the others need not wait for its peer. The same link is never measured twice
 * at once.
 */
export class MeasuringTurn {
  readonly #isBusy: () => boolean
  readonly #open = new Set<JsonStream>()
  /** Peers whose links are being measured, with the turn or without. */
  readonly #peers = new Set<string>()
  /** Resolves when the turn is let go of, where it has limits. */
  #holder: { letGo?: Promise<void> } | undefined

  /** @param isBusy - tokens flow */
  constructor(isBusy: () => boolean) {
    this.#isBusy = isBusy
  }

  /** True where nothing may be measured now. */
  get taken(): boolean {
    return this.measuring || this.#isBusy()
  }

  /** True where this node takes part in a measurement, and has not let go of it. */
  get measuring(): boolean {
    return this.#holder !== undefined
  }

  /** True where the link to a peer is being measured. */
  isWith(peerId: string): boolean {
    return this.#peers.has(peerId)
  }

  /** True where an answer has begun meanwhile, which must not stand behind the rest of the bursts. */
  get interrupted(): boolean {
    return this.#isBusy()
  }

  /** Resolves when the turn is let go of, where a measurement has it that does so soon. */
  get letGo(): Promise<void> | undefined {
    return this.#holder?.letGo
  }

  /** @param work is given what to call with each sign of the peer */
  async take<T>(
    peerId: string,
    work: (progressed: () => void) => Promise<T>,
    limits?: TurnLimits
  ): Promise<T> {
    const holder: { letGo?: Promise<void> } = {}
    const timers: NodeJS.Timeout[] = []
    let resolveLetGo = () => {}
    const letGo = () => {
      for (const timer of timers) clearTimeout(timer)
      if (this.#holder === holder) this.#holder = undefined
      resolveLetGo()
    }
    if (limits !== undefined) {
      holder.letGo = new Promise(resolve => {
        resolveLetGo = resolve
      })
      timers.push(setTimeout(letGo, limits.stallMs), setTimeout(letGo, limits.mostMs))
    }
    this.#holder = holder
    this.#peers.add(peerId)
    try {
      return await work(() => {
        if (this.#holder === holder) timers[0]?.refresh()
      })
    } finally {
      letGo()
      this.#peers.delete(peerId)
    }
  }

  /** Runs `work` on a stream, which ends with `until`, and with it everything that waits for it. */
  async during<T>(messages: JsonStream, until: AbortSignal, work: () => Promise<T>): Promise<T> {
    const onAbort = () => messages.abort(until.reason)
    until.addEventListener('abort', onAbort, { once: true })
    this.#open.add(messages)
    try {
      until.throwIfAborted()
      return await work()
    } catch (error) {
      messages.abort(error instanceof Error ? error : new Error(String(error)))
      throw until.aborted ? until.reason : error
    } finally {
      this.#open.delete(messages)
      until.removeEventListener('abort', onAbort)
    }
  }

  /** Ends every measurement. */
  stop(): void {
    for (const messages of this.#open) messages.abort(new Error('the node stops'))
  }
}
