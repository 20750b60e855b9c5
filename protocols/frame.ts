import { MAX_FRAME_TOKENS, MAX_HIDDEN_SIZE, MAX_SMALL_PAYLOAD_BYTES, MAX_TOP_LOGPROBS } from './constants.ts'
import { InvalidMessageError, LimitExceededError } from './errors.ts'
import { plainText } from './text.ts'

/**
 * What a stage stream carries.
 *
 * - `hidden`: hidden states (tokens, hidden) as float32, for the next stage.
 * - `token`: a drawn token, for the source.
 * - `done`: `tokens` tokens from `position` on went through the head and no token was drawn, for the source.
 * - `error`: the session cannot go on at the sender.
 * - `cancel`: the session is over; stop working for it.
 */
export type FrameType = 'hidden' | 'token' | 'done' | 'error' | 'cancel'

export interface FrameHeader {
  type: FrameType
  /** 32 lower-case hex digits. */
  sessionId: string
  /** Tokens of the session before this frame's first one. */
  position: number
  /** Tokens this frame is about: rows of the hidden states. */
  tokens: number
  /** Columns of the hidden states; 0 in other frames. */
  hiddenSize: number
  /** The head draws a token after this frame's last position (unset on all but the last chunk of a prefill). */
  sample: boolean
  /** Compute time of the stages that this token, or chunk, has passed so far. */
  computeMs: number
}

export interface FrameToken {
  id: number
  logprob: number
  top: { id: number; logprob: number }[]
}

/**
 * Header on the wire, little endian as every host that runs this: version u8, type u8, flags u8, dtype u8 (1 =
 * float32), session id 16 bytes, position u32, tokens u32, hidden size u32, compute ms f32, payload bytes u32.
 */
export const FRAME_HEADER_BYTES = 40

const VERSION = 1
const FLOAT32 = 1
const FLAG_SAMPLE = 1
const TYPES: readonly FrameType[] = ['hidden', 'token', 'done', 'error', 'cancel']
const MAX_POSITION = 2 ** 24

export function encodeFrameHeader(header: FrameHeader, payloadBytes: number): Buffer {
  const bytes = Buffer.allocUnsafe(FRAME_HEADER_BYTES)
  bytes[0] = VERSION
  bytes[1] = TYPES.indexOf(header.type)
  bytes[2] = header.sample ? FLAG_SAMPLE : 0
  bytes[3] = FLOAT32
  if (header.sessionId.length !== 32 || bytes.write(header.sessionId, 4, 16, 'hex') !== 16) {
    throw new InvalidMessageError(`'${header.sessionId}' is not a session id of 32 hex digits`)
  }
  bytes.writeUInt32LE(header.position, 20)
  bytes.writeUInt32LE(header.tokens, 24)
  bytes.writeUInt32LE(header.hiddenSize, 28)
  bytes.writeFloatLE(header.computeMs, 32)
  bytes.writeUInt32LE(payloadBytes, 36)
  return bytes
}

/**
 * Reads and checks a header. After it, `payloadBytes` is known to be small enough to allocate.
 *
 * @throws {InvalidMessageError} for what no version sends, {LimitExceededError} for what is too large.
 */
export function decodeFrameHeader(bytes: Uint8Array): { header: FrameHeader; payloadBytes: number } {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, FRAME_HEADER_BYTES)
  if (view[0] !== VERSION) throw new InvalidMessageError(`frame version ${view[0]} is not ${VERSION}`)
  const type = TYPES[view[1]!]
  if (type === undefined) throw new InvalidMessageError(`frame type ${view[1]} is unknown`)
  if (view[2]! > FLAG_SAMPLE) throw new InvalidMessageError(`frame flags ${view[2]} are unknown`)
  if (view[3] !== FLOAT32) throw new InvalidMessageError(`frame dtype ${view[3]} is not float32`)
  const header: FrameHeader = {
    type,
    sessionId: view.toString('hex', 4, 20),
    position: view.readUInt32LE(20),
    tokens: view.readUInt32LE(24),
    hiddenSize: view.readUInt32LE(28),
    sample: view[2] === FLAG_SAMPLE,
    computeMs: view.readFloatLE(32)
  }
  const payloadBytes = view.readUInt32LE(36)
  if (!(header.computeMs >= 0 && header.computeMs < 1e9)) {
    throw new InvalidMessageError(`frame compute time ${header.computeMs} is not a time`)
  }
  if (header.position > MAX_POSITION || header.tokens > MAX_FRAME_TOKENS) {
    throw new LimitExceededError(
      `a frame of ${header.tokens} tokens at position ${header.position} exceeds ${MAX_FRAME_TOKENS} or ${MAX_POSITION}`
    )
  }
  if (type === 'hidden') checkHidden(header, payloadBytes)
  else if (payloadBytes > MAX_SMALL_PAYLOAD_BYTES || header.hiddenSize !== 0) {
    throw new LimitExceededError(
      `a ${type} frame of ${payloadBytes} bytes exceeds ${MAX_SMALL_PAYLOAD_BYTES}`
    )
  }
  return { header, payloadBytes }
}

function checkHidden({ tokens, hiddenSize }: FrameHeader, payloadBytes: number): void {
  if (tokens === 0 || hiddenSize === 0 || hiddenSize > MAX_HIDDEN_SIZE) {
    throw new LimitExceededError(
      `hidden states (${tokens}, ${hiddenSize}) exceed ${MAX_HIDDEN_SIZE} or are empty`
    )
  }
  if (payloadBytes !== tokens * hiddenSize * 4) {
    throw new InvalidMessageError(`${payloadBytes} bytes are not hidden states (${tokens}, ${hiddenSize})`)
  }
}

/** id i32, logprob f32, then the same for each alternative. */
export function encodeToken(token: FrameToken): Buffer {
  const all = [token, ...token.top.slice(0, MAX_TOP_LOGPROBS)]
  const bytes = Buffer.allocUnsafe(all.length * 8)
  all.forEach(({ id, logprob }, i) => {
    bytes.writeInt32LE(id, i * 8)
    bytes.writeFloatLE(logprob, i * 8 + 4)
  })
  return bytes
}

export function decodeToken(payload: Uint8Array): FrameToken {
  const count = payload.byteLength / 8
  if (!Number.isInteger(count) || count < 1 || count > MAX_TOP_LOGPROBS + 1) {
    throw new InvalidMessageError(`${payload.byteLength} bytes are not a token with its alternatives`)
  }
  const view = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  const all = Array.from({ length: count }, (_, i) => {
    const id = view.readInt32LE(i * 8)
    const logprob = view.readFloatLE(i * 8 + 4)
    if (id < 0 || Number.isNaN(logprob) || logprob > 1e-3) {
      throw new InvalidMessageError(`token ${id} with log-probability ${logprob} is not one`)
    }
    return { id, logprob }
  })
  const [token, ...top] = all
  return { ...token!, top }
}

/** A short code, a zero byte, a text for people. */
export function encodeFrameError(code: string, message: string): Buffer {
  return Buffer.from(`${plainText(code, 40)}\0${plainText(message)}`, 'utf8').subarray(
    0,
    MAX_SMALL_PAYLOAD_BYTES
  )
}

export function decodeFrameError(payload: Uint8Array): { code: string; message: string } {
  const [code = '', message = ''] = Buffer.from(payload).toString('utf8').split('\0')
  return { code: plainText(code, 40), message: plainText(message) }
}
