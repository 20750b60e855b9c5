import type { Stream } from '@libp2p/interface'
import type { z } from 'zod'
import { ByteReader, type ReadOptions } from './byte-reader.ts'
import { MAX_MESSAGE_BYTES } from './constants.ts'
import { DeadlineError, InvalidMessageError, LimitExceededError, NotUnderstoodError } from './errors.ts'
import { parseMessage } from './message.ts'
import { closeStream, sendBytes } from './stream.ts'

const LENGTH_BYTES = 4

/**
 * Messages on a stream: a length of four bytes (big endian), then JSON in UTF-8. What arrives is capped before it is
 * read and checked by a schema before it is believed. A message that fails either ends the stream.
 *
 * @example
 * ```ts
 * const messages = new JsonStream(stream)
 * await messages.send({ type: 'hello' })
 * const reply = await messages.read(z.object({ type: z.literal('welcome') }), { timeoutMs: 1000 })
 * ```
 */
export class JsonStream {
  readonly stream: Stream
  readonly reader: ByteReader
  readonly #maxBytes: number
  #sending: Promise<void> = Promise.resolve()

  constructor(stream: Stream, options: { maxBytes?: number; onBytes?: () => void } = {}) {
    this.stream = stream
    this.#maxBytes = options.maxBytes ?? MAX_MESSAGE_BYTES
    this.reader = new ByteReader(stream, options.onBytes)
  }

  /** Messages leave in the order of the calls. One that the peer does not take in time ends the stream: half of it may be sent. */
  send(message: object): Promise<void> {
    const body = Buffer.from(JSON.stringify(message), 'utf8')
    if (body.byteLength > this.#maxBytes) {
      return Promise.reject(
        new LimitExceededError(`a message of ${body.byteLength} bytes exceeds ${this.#maxBytes}`)
      )
    }
    const bytes = Buffer.allocUnsafe(LENGTH_BYTES + body.byteLength)
    bytes.writeUInt32BE(body.byteLength)
    body.copy(bytes, LENGTH_BYTES)
    const sent = this.#sending.then(() => sendBytes(this.stream, bytes))
    this.#sending = sent.catch((error: Error) => {
      if (error instanceof DeadlineError) this.stream.abort(error)
    })
    return sent
  }

  /**
   * The next message; see `parseMessage` for what drops out of it. Resets the stream and throws {InvalidMessageError} or
   * {LimitExceededError} where the bytes are not one. Throws {NotUnderstoodError} where it needs a later version to be
   * read: the caller says so and ends the stream.
   */
  async read<S extends z.ZodType>(schema: S, options: ReadOptions = {}): Promise<z.output<S>> {
    const head = await this.reader.read(LENGTH_BYTES, options)
    const length = new DataView(head.buffer, head.byteOffset).getUint32(0)
    if (length > this.#maxBytes) {
      throw this.#refuse(new LimitExceededError(`a message of ${length} bytes exceeds ${this.#maxBytes}`))
    }
    const body = await this.reader.read(length, options)
    let value: unknown
    try {
      value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(body))
    } catch {
      throw this.#refuse(new InvalidMessageError('a message is not JSON in UTF-8'))
    }
    try {
      return parseMessage(schema, value)
    } catch (error) {
      // The reader may say so before it ends the stream.
      if (error instanceof NotUnderstoodError) throw error
      throw this.#refuse(error as Error)
    }
  }

  close(): Promise<void> {
    return closeStream(this.stream)
  }

  abort(error: Error): void {
    this.stream.abort(error)
  }

  #refuse<E extends Error>(error: E): E {
    this.stream.abort(error)
    return error
  }
}
