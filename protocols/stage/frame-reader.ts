import type { Stream, StreamMessageEvent } from '@libp2p/interface'
import { CHUNK_BYTES } from '../constants.ts'
import { DeadlineError, LimitExceededError } from '../errors.ts'
import {
  FRAME_STALL_TIMEOUT_MS,
  MAX_PENDING_FRAME_BYTES,
  MAX_PENDING_FRAMES,
  MAX_REFUSED_FRAMES_PER_SECOND
} from './constants.ts'
import {
  decodeFrameHeader,
  decodeFrameStart,
  FRAME_START_BYTES,
  type FrameHeader,
  type FrameStart,
  frameTailBytes,
  maskBytesOf
} from './frame.ts'

/** What takes in the bytes of a stage stream. */
export interface FrameSink {
  /**
   * Memory for the hidden states that `header` announces, of exactly tokens x hiddenSize values; they are written
   * straight into it. Null refuses the frame: its bytes are skipped. Throwing ends the stream.
   */
  allocate(header: FrameHeader): Float32Array<SharedArrayBuffer> | null
  /** A whole frame; `payload` is the allocated memory's bytes, or a small buffer. A pending promise is back-pressure. */
  onFrame(
    header: FrameHeader,
    payload: Uint8Array,
    hidden: Float32Array<SharedArrayBuffer> | null
  ): void | Promise<void>
  onBytes(): void
  /** Pieces of a payload: what came after the first one, and how long that took. Of one that takes long each part of it. */
  onTransfer?(bytes: number, ms: number): void
}

/** Shorter payloads arrive in one or two pieces and say nothing about the link. */
const MIN_TIMED_BYTES = 4 * CHUNK_BYTES
/** What takes longer is timed in parts: on a link that has become slow the whole of it may be seconds away. */
const TIMED_PART_MS = 250

/**
 * Cuts a stage stream into frames: a state machine fed by the stream's events, so a frame is handed on in the tick its
 * last byte arrives. Frames that wait for their consumer are bounded by MAX_PENDING_FRAME_BYTES, which readers that have any
 * share; above its share the stream is paused, which in the end stops the sender.
 */
export class FrameReader {
  readonly #stream: Stream
  readonly #sink: FrameSink
  readonly #first = Buffer.alloc(FRAME_START_BYTES)
  #start: FrameStart | null = null
  #header: FrameHeader | null = null
  #hidden: Float32Array<SharedArrayBuffer> | null = null
  /** The part being filled; null while refused bytes are skipped. */
  #target: Uint8Array | null = this.#first
  #filled = 0
  #size = FRAME_START_BYTES
  /** When the first piece of the payload had come, and how much of it. */
  #firstPiece: { atMs: number; bytes: number } | null = null
  readonly #waiting: Set<FrameReader>
  #pendingBytes = 0
  #pendingFrames = 0
  #refused = 0
  #refusedSinceMs = 0
  /** Runs while a frame has begun and not ended. */
  #stall: NodeJS.Timeout | undefined

  /**
   * Attach in the same tick as the stream was received.
   *
   * @param waiting the readers of a node whose frames wait for a consumer; absent: there is no other
   */
  constructor(stream: Stream, sink: FrameSink, waiting = new Set<FrameReader>()) {
    this.#stream = stream
    this.#sink = sink
    this.#waiting = waiting
    stream.addEventListener('message', this.#onMessage)
    stream.addEventListener('close', () => clearTimeout(this.#stall))
  }

  #onMessage = (event: StreamMessageEvent): void => {
    // An exception in an event listener would end the process.
    try {
      this.#sink.onBytes()
      const chunks = event.data instanceof Uint8Array ? [event.data] : event.data
      for (const chunk of chunks) this.#consume(chunk)
      this.#awaitRest()
    } catch (error) {
      this.#stream.abort(error instanceof Error ? error : new Error(String(error)))
    }
  }

  #awaitRest(): void {
    clearTimeout(this.#stall)
    if (this.#start !== null || this.#filled > 0)
      this.#stall = setTimeout(this.#onStall, FRAME_STALL_TIMEOUT_MS).unref()
  }

  #onStall = (): void => {
    // A paused stream is held back by this side.
    if (this.#stream.readStatus === 'paused') this.#awaitRest()
    else
      this.#stream.abort(
        new DeadlineError(`the rest of a frame did not come for ${FRAME_STALL_TIMEOUT_MS} ms`)
      )
  }

  #consume(chunk: Uint8Array): void {
    let offset = 0
    while (offset < chunk.byteLength) {
      const count = Math.min(chunk.byteLength - offset, this.#size - this.#filled)
      this.#target?.set(chunk.subarray(offset, offset + count), this.#filled)
      this.#filled += count
      offset += count
      // A payload alone counts: what comes before it is of another size.
      if (this.#header !== null && this.#size >= MIN_TIMED_BYTES) this.#timePiece()
      // A part that is empty is complete at once.
      while (this.#filled === this.#size && this.#advance()) {}
    }
  }

  /** Goes to the next part; true when that part is already complete because it is empty. */
  #advance(): boolean {
    if (this.#start === null) {
      const start = decodeFrameStart(this.#first)
      this.#start = start
      return this.#next(Buffer.allocUnsafe(frameTailBytes(start)), frameTailBytes(start))
    }
    if (this.#header === null) {
      this.#header = decodeFrameHeader(this.#start, this.#target!)
      return this.#next(this.#payload(this.#header, this.#start.payloadBytes), this.#start.payloadBytes)
    }
    this.#reportTransfer()
    const { header, target, hidden } = { header: this.#header, target: this.#target, hidden: this.#hidden }
    this.#start = null
    this.#header = null
    this.#hidden = null
    this.#next(this.#first, FRAME_START_BYTES)
    if (target === null) this.#countRefused()
    else this.#deliver(header, target, hidden)
    return false
  }

  #next(target: Uint8Array | null, size: number): boolean {
    this.#target = target
    this.#filled = 0
    this.#size = size
    return size === 0
  }

  #payload(header: FrameHeader, payloadBytes: number): Uint8Array | null {
    if (header.type !== 'hidden') return new Uint8Array(payloadBytes)
    const hidden = this.#sink.allocate(header)
    this.#hidden = hidden
    if (hidden && hidden.byteLength !== payloadBytes) {
      throw new RangeError(`${hidden.byteLength} bytes were allocated for ${payloadBytes}`)
    }
    return hidden && new Uint8Array(hidden.buffer, hidden.byteOffset, hidden.byteLength)
  }

  #timePiece(): void {
    const nowMs = performance.now()
    const first = this.#firstPiece
    if (first !== null && nowMs - first.atMs < TIMED_PART_MS) return
    // What comes behind a piece that is read while the stream is paused was held back by this side.
    const isPaused = this.#stream.readStatus === 'paused'
    this.#firstPiece = isPaused ? null : { atMs: nowMs, bytes: this.#filled }
    if (first !== null && !isPaused) this.#sink.onTransfer?.(this.#filled - first.bytes, nowMs - first.atMs)
  }

  #reportTransfer(): void {
    const first = this.#firstPiece
    this.#firstPiece = null
    // A paused stream was held back by this side.
    if (first === null || this.#stream.readStatus === 'paused') return
    const ms = performance.now() - first.atMs
    const bytes = this.#size - first.bytes
    // Most of it at once: this process had been busy, and nothing can be said of the link.
    if (ms > 1 && bytes >= this.#size / 2) this.#sink.onTransfer?.(bytes, ms)
  }

  #deliver(header: FrameHeader, payload: Uint8Array, hidden: Float32Array<SharedArrayBuffer> | null): void {
    const pending = this.#sink.onFrame(header, payload, hidden)
    if (pending === undefined) return
    const bytes = payload.byteLength + maskBytesOf(header.rows)
    this.#pendingBytes += bytes
    this.#pendingFrames++
    this.#waiting.add(this)
    if (this.#pendingBytes > this.#share || this.#pendingFrames > MAX_PENDING_FRAMES) {
      if (this.#stream.readStatus === 'readable') this.#stream.pause()
    }
    pending
      .catch((error: unknown) => {
        this.#stream.abort(error instanceof Error ? error : new Error(String(error)))
      })
      .finally(() => {
        this.#pendingBytes -= bytes
        this.#pendingFrames--
        if (this.#pendingFrames === 0) this.#waiting.delete(this)
        if (
          this.#stream.readStatus === 'paused' &&
          this.#pendingBytes <= this.#share / 2 &&
          this.#pendingFrames <= MAX_PENDING_FRAMES / 2
        ) {
          this.#stream.resume()
        }
      })
  }

  /** Bytes that may wait here. */
  get #share(): number {
    return MAX_PENDING_FRAME_BYTES / Math.max(1, this.#waiting.size)
  }

  #countRefused(): void {
    const now = performance.now()
    if (now - this.#refusedSinceMs > 1000) {
      this.#refusedSinceMs = now
      this.#refused = 0
    }
    if (++this.#refused > MAX_REFUSED_FRAMES_PER_SECOND) {
      throw new LimitExceededError(
        `more than ${MAX_REFUSED_FRAMES_PER_SECOND} refused frames within a second`
      )
    }
  }
}
