import type { SampledToken } from '../../../models/runtime/runtime.ts'

/** Tokens that may wait to be read; a client that stops reading stops its answer, not the others'. */
const MAX_UNREAD_TOKENS = 16
/** A client that has read nothing for so long is taken to be gone, and its slot is another's. */
const STALLED_READER_MS = 60_000

export interface UnreadTokensInit {
  /** There is room again, after there was none. */
  onRoom: () => void
  /** There has been no room for STALLED_READER_MS. */
  onStalled: (error: Error) => void
}

/** Tokens of an answer between those who draw them and the one who reads them. */
export class UnreadTokens {
  readonly #init: UnreadTokensInit
  readonly #tokens: SampledToken[] = []
  #reader: PromiseWithResolvers<SampledToken> | undefined
  #stalled: NodeJS.Timeout | undefined
  #failure: Error | undefined

  constructor(init: UnreadTokensInit) {
    this.#init = init
  }

  /** True while no more should be drawn. What is drawn all the same is kept. */
  get isFull(): boolean {
    return this.#tokens.length >= MAX_UNREAD_TOKENS
  }

  /** Gives a token to who waits for it, or keeps it until it is read. */
  add(token: SampledToken): void {
    if (this.#reader === undefined) this.#keep(token)
    else this.#reader.resolve(token)
    this.#reader = undefined
  }

  /** The next token, where it is there already. */
  take(): SampledToken | undefined {
    const token = this.#tokens.shift()
    if (this.#tokens.length === MAX_UNREAD_TOKENS - 1) {
      clearTimeout(this.#stalled)
      this.#stalled = undefined
      this.#init.onRoom()
    }
    return token
  }

  /** Waits for the next token, where there is none yet. One reader at a time. Rejects with what `end` is called with. */
  next(): Promise<SampledToken> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    this.#reader = Promise.withResolvers()
    return this.#reader.promise
  }

  /** Sends who waits away; others may come. */
  sendOn(reason: Error): void {
    this.#reader?.reject(reason)
    this.#reader = undefined
  }

  /** No token comes any more; those that are there may still be taken. */
  end(error: Error): void {
    clearTimeout(this.#stalled)
    this.#failure = error
    this.sendOn(error)
  }

  #keep(token: SampledToken): void {
    this.#tokens.push(token)
    if (!this.isFull || this.#stalled !== undefined) return
    const late = () =>
      this.#init.onStalled(new Error(`nobody has read the answer for ${STALLED_READER_MS / 1000} s`))
    this.#stalled = setTimeout(late, STALLED_READER_MS).unref()
  }
}
