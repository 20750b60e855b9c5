import type { Stream, StreamMessageEvent } from '@libp2p/interface'
import { Uint8ArrayList } from 'uint8arraylist'
import { READ_HIGH_WATER_BYTES } from './constants.ts'
import { DeadlineError, StreamEndedError } from './errors.ts'

export interface ReadOptions {
  signal?: AbortSignal
  /** Gives up when the bytes are not complete by then. */
  timeoutMs?: number
}

/**
 * Reads a stream piece by piece. Iterating over a libp2p stream buffers without bound; this pauses the stream above
 * READ_HIGH_WATER_BYTES and resumes it when half of them are read. One read at a time.
 */
export class ByteReader {
  readonly #stream: Stream
  readonly #onBytes: (() => void) | undefined
  readonly #buffer = new Uint8ArrayList()
  #ended = false
  #error: Error | undefined
  #wake: (() => void) | undefined
  #wanted = 0

  /** Attach in the same tick as the stream was received. `onBytes` is called for every arrival. */
  constructor(stream: Stream, onBytes?: () => void) {
    this.#stream = stream
    this.#onBytes = onBytes
    stream.addEventListener('message', this.#onMessage)
    stream.addEventListener('end', this.#onEnd)
    stream.addEventListener('close', this.#onClose)
    if (stream.readableEnded || stream.readStatus === 'closed') this.#finish()
  }

  /** Bytes that arrived and were not read. */
  get bufferedBytes(): number {
    return this.#buffer.byteLength
  }

  /** Exactly `length` bytes, in memory of their own. */
  async read(length: number, options: ReadOptions = {}): Promise<Uint8Array> {
    await this.#need(length, options)
    return this.#take(length)
  }

  /** Between 1 and `maxLength` bytes, or null at the end. */
  async readSome(maxLength: number, options: ReadOptions = {}): Promise<Uint8Array | null> {
    try {
      await this.#need(1, options)
    } catch (error) {
      if (error instanceof StreamEndedError && this.#error === undefined) return null
      throw error
    }
    return this.#take(Math.min(maxLength, this.#buffer.byteLength))
  }

  #take(length: number): Uint8Array {
    const bytes = this.#buffer.slice(0, length)
    this.#buffer.consume(length)
    if (this.#buffer.byteLength < READ_HIGH_WATER_BYTES / 2) this.#resume()
    return bytes
  }

  async #need(length: number, { signal, timeoutMs }: ReadOptions): Promise<void> {
    if (this.#wake) throw new Error('only one read at a time')
    signal?.throwIfAborted()
    if (this.#buffer.byteLength >= length) return
    this.#resume()
    this.#wanted = length
    let timer: NodeJS.Timeout | undefined
    let onAbort: (() => void) | undefined
    try {
      await new Promise<void>((resolve, reject) => {
        this.#wake = () => {
          if (this.#buffer.byteLength >= length) resolve()
          else if (this.#ended) reject(this.#error ?? new StreamEndedError('the stream ended'))
        }
        if (timeoutMs !== undefined) {
          timer = setTimeout(() => reject(new DeadlineError(`no answer within ${timeoutMs} ms`)), timeoutMs)
        }
        if (signal) {
          onAbort = () => reject(signal.reason)
          signal.addEventListener('abort', onAbort, { once: true })
        }
        this.#wake()
      })
    } finally {
      this.#wake = undefined
      this.#wanted = 0
      clearTimeout(timer)
      if (onAbort) signal?.removeEventListener('abort', onAbort)
    }
  }

  #onMessage = (event: StreamMessageEvent): void => {
    this.#buffer.append(event.data)
    this.#onBytes?.()
    if (this.#buffer.byteLength >= Math.max(READ_HIGH_WATER_BYTES, this.#wanted)) this.#pause()
    this.#wake?.()
  }

  #onEnd = (): void => this.#finish()

  #onClose = (event: Event & { error?: Error }): void => {
    if (event.error) this.#error ??= new StreamEndedError(event.error.message, { cause: event.error })
    this.#finish()
  }

  #finish(): void {
    this.#ended = true
    this.#wake?.()
  }

  #pause(): void {
    if (this.#stream.readStatus === 'readable') this.#stream.pause()
  }

  #resume(): void {
    if (this.#stream.readStatus === 'paused') this.#stream.resume()
  }
}
