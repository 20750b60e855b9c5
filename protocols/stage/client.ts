import type { Stream } from '@libp2p/interface'
import { Uint8ArrayList } from 'uint8arraylist'
import { CHUNK_BYTES, OPEN_STREAM_TIMEOUT_MS } from '../constants.ts'
import { LimitExceededError, PeerLostError } from '../errors.ts'
import { closeStream, drained, sendBytes, write } from '../stream.ts'
import { messageOf } from '../text.ts'
import type { Transport } from '../transport.ts'
import { MAX_QUEUED_SEND_BYTES, MAX_STAGE_STREAMS } from './constants.ts'
import { maskBytesOf } from './frame.ts'
import { encodeFrame, type StageFrame } from './messages.ts'
import type { StageCounters } from './server.ts'

/** The stream to one peer: opened by the first frame, one frame at a time, gone for good with its first failure. */
export class Outbound {
  readonly #peerId: string
  readonly #opening: Promise<Stream>
  readonly #onLost: (reason: string) => void
  #stream: Stream | undefined
  #turn: Promise<void> = Promise.resolve()
  #waiting = 0
  #queuedBytes = 0
  #lost: Error | undefined

  constructor(transport: Transport, peerId: string, onLost: (reason: string) => void) {
    this.#peerId = peerId
    this.#onLost = onLost
    this.#opening = transport
      .newStream(peerId, transport.protocols.stage, {
        signal: AbortSignal.timeout(OPEN_STREAM_TIMEOUT_MS),
        maxOutboundStreams: MAX_STAGE_STREAMS
      })
      .then(stream => this.#opened(stream))
    this.#opening.catch(error => this.#fail(error))
  }

  send(frame: StageFrame, signal: AbortSignal | undefined, counters: StageCounters): Promise<void> {
    const { head, payload } = encodeFrame(frame)
    const bytes = payload.byteLength + maskBytesOf(frame.rows)
    if (this.#queuedBytes + bytes > MAX_QUEUED_SEND_BYTES) {
      return Promise.reject(
        new LimitExceededError(`${this.#queuedBytes} bytes already wait for ${this.#peerId}: it is too slow`)
      )
    }
    this.#queuedBytes += bytes
    const idle = this.#stream !== undefined && this.#waiting === 0
    this.#waiting++
    // On an idle link the first bytes leave in this very tick.
    const sent = idle
      ? this.#write(head, payload, signal)
      : this.#turn.then(() => this.#write(head, payload, signal))
    const done = sent
      .then(() => {
        counters.framesSent++
        if (frame.type === 'hidden') counters.hiddenBytesSent += payload.byteLength
      })
      .finally(() => {
        this.#waiting--
        this.#queuedBytes -= bytes
      })
    // The sender hears of it; the next frame has its own turn.
    this.#turn = done.catch(() => {})
    return done
  }

  async close(): Promise<void> {
    if (this.#stream) await closeStream(this.#stream)
  }

  async #write(head: Uint8Array, payload: Uint8Array, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted()
    try {
      if (this.#lost) throw this.#lost
      const stream = this.#stream ?? (await this.#opening)
      signal?.throwIfAborted()
      const room = CHUNK_BYTES - head.byteLength
      const first = payload.subarray(0, Math.max(0, room))
      if (room < 0) await sendBytes(stream, head)
      else if (!write(stream, new Uint8ArrayList(head, first))) await drained(stream)
      if (payload.byteLength > first.byteLength) await sendBytes(stream, payload.subarray(first.byteLength))
    } catch (error) {
      if (signal?.aborted && error === signal.reason) throw error
      this.#stream?.abort(error instanceof Error ? error : new Error(String(error)))
      this.#fail(error)
      throw this.#lost
    }
  }

  #opened(stream: Stream): Stream {
    this.#stream = stream
    // The receiver never writes; its bytes are dropped instead of buffered.
    stream.addEventListener('message', () => {})
    stream.addEventListener('close', event => this.#fail(event.error ?? new Error('the stream closed')))
    return stream
  }

  #fail(error: unknown): void {
    if (this.#lost) return
    this.#lost =
      error instanceof PeerLostError
        ? error
        : new PeerLostError(this.#peerId, `the stream to ${this.#peerId} broke: ${messageOf(error)}`, {
            cause: error
          })
    this.#onLost(this.#lost.message)
  }
}
