import type { StageCode } from './codes.ts'
import {
  decodeFrameError,
  decodePooled,
  decodeTokens,
  encodeFrameError,
  encodeFrameHeader,
  encodeTokens,
  type FrameHeader,
  type FrameToken
} from './frame.ts'

/**
 * A header and what it announces: hidden states as float32, row-major (tokens, hidden), a token of each session, or a vector. That
 * they are finite is the handler's to check: it knows their sessions.
 */
export type StageFrame = Omit<FrameHeader, 'type'> &
  (
    | { type: 'hidden'; hidden: Float32Array<SharedArrayBuffer> }
    | { type: 'token'; drawn: FrameToken[] }
    | { type: 'error'; code: StageCode; message: string }
    | { type: 'drop' }
    | { type: 'pooled'; pooled: Float32Array }
  )

/** A frame's bytes: its header, and its payload, which for hidden states is their own memory. */
export function encodeFrame(frame: StageFrame): { head: Buffer; payload: Uint8Array } {
  const payload = payloadOf(frame)
  return { head: encodeFrameHeader(frame, payload.byteLength), payload }
}

/**
 * A frame from what its reader has found; `hidden` is the memory that the payload of hidden states is in.
 *
 * @throws {InvalidMessageError} where the payload is not what the header announces
 */
export function decodeFrame(
  header: FrameHeader,
  payload: Uint8Array,
  hidden: Float32Array<SharedArrayBuffer> | null
): StageFrame {
  const { type, ...head } = header
  switch (type) {
    case 'hidden':
      return { ...head, type, hidden: hidden! }
    case 'token':
      return { ...head, type, drawn: decodeTokens(payload, head.rows.length) }
    case 'error':
      return { ...head, type, ...decodeFrameError(payload) }
    case 'drop':
      return { ...head, type }
    case 'pooled':
      return { ...head, type, pooled: decodePooled(payload) }
  }
}

function payloadOf(frame: StageFrame): Uint8Array {
  switch (frame.type) {
    case 'hidden':
      return new Uint8Array(frame.hidden.buffer, frame.hidden.byteOffset, frame.hidden.byteLength)
    case 'token':
      return encodeTokens(frame.drawn)
    case 'error':
      return encodeFrameError(frame.code, frame.message)
    case 'drop':
      return NOTHING
    case 'pooled':
      return new Uint8Array(frame.pooled.buffer, frame.pooled.byteOffset, frame.pooled.byteLength)
  }
}

const NOTHING = new Uint8Array(0)
