import { MAX_TOP_LOGPROBS } from '../../models/runtime/sampling-limits.ts'
import { MAX_MASK_BYTES, type TokenMask } from '../../models/runtime/token-mask.ts'
import { InvalidMessageError, LimitExceededError } from '../errors.ts'
import { plainText } from '../text.ts'
import { type StageCode, stageCode } from './codes.ts'
import {
  MAX_FRAME_ROWS,
  MAX_FRAME_TIMINGS,
  MAX_FRAME_TOKENS,
  MAX_HIDDEN_SIZE,
  MAX_SMALL_PAYLOAD_BYTES
} from './constants.ts'

/**
 * What a stage stream carries.
 *
 * - `hidden`: hidden states (tokens, hidden) as float32, for the next stage.
 * - `token`: a drawn token of each session, for the source.
 * - `pooled`: what a session's hidden states come to as one vector (hidden), for the source.
 * - `error`: the sessions cannot go on at the sender.
 * - `drop`: steps of these sessions whose epoch is an earlier one are not wanted any more; from their source.
 */
export type FrameType = 'hidden' | 'token' | 'error' | 'drop' | 'pooled'

/** A session's part of a step, and the position at which it starts. */
export interface FrameRow {
  /** 32 lower-case hex digits. */
  sessionId: string
  /** Tokens of the session before this step's first one. */
  position: number
  /**
   * Rises when a token that was fed as a guess turns out to be another: what was fed from there on is forgotten, and steps
   * of an earlier epoch are not computed any more. Absent: 0, of a session that feeds no guesses.
   */
  epoch?: number
  /** Tokens that may be drawn behind the step's last one, in `hidden` frames. Absent: all of them. */
  mask?: TokenMask
}

/** What one stage took for a step. Its clock is its own: only differences of one stage's times mean something. */
export interface StageTiming {
  /** When the step's last byte had arrived, in ms since the epoch. */
  arrivedAtMs: number
  /** When the step's result was handed on. */
  sentAtMs: number
  /** The part of it that was computing; the rest is waiting for the stage's turn. */
  computeMs: number
}

/** A step of one session, of any number of tokens, or of a micro-batch: one token of each of several sessions. */
export interface FrameHeader {
  type: FrameType
  rows: FrameRow[]
  /** Tokens this frame is about: rows of the hidden states. With several sessions, one each. */
  tokens: number
  /** Columns of the hidden states, values of the pooled ones; 0 in other frames. */
  hiddenSize: number
  /** The head draws a token after the last position (unset on all but the last chunk of a prefill). */
  sample: boolean
  /** The stages that the step has passed so far, in order. */
  timings: StageTiming[]
}

export interface FrameToken {
  id: number
  logprob: number
  top: { id: number; logprob: number }[]
}

/** The part of a header that every frame has; it says how long the rest is. */
export interface FrameStart {
  type: FrameType
  rows: number
  timings: number
  tokens: number
  hiddenSize: number
  sample: boolean
  /** Of the masks of all sessions. */
  maskBytes: number
  payloadBytes: number
}

/**
 * On the wire, little endian as every host that runs this: version u8, type u8, flags u8, dtype u8 (1 = float32),
 * rows u16, timings u16, tokens u32, hidden size u32, payload bytes u32, mask bytes u32; then for each row session id
 * (16 bytes), position u32, epoch u32 and the bytes of its mask u32; then for each timing two times f64 and one f32; then the
 * masks; then the payload.
 */
export const FRAME_START_BYTES = 24
const ROW_BYTES = 28
const TIMING_BYTES = 20

const VERSION = 4
const FLOAT32 = 1
const FLAG_SAMPLE = 1
const TYPES: readonly FrameType[] = ['hidden', 'token', 'error', 'drop', 'pooled']
const MAX_POSITION = 2 ** 24
/** The year 5138: what is later is no time. */
const MAX_TIME_MS = 1e14

/** The whole header: its start, rows and timings. */
export function encodeFrameHeader(header: FrameHeader, payloadBytes: number): Buffer {
  const { rows, timings } = header
  const masks = rows.map(({ mask }) => (header.type === 'hidden' ? mask : undefined))
  const maskBytes = header.type === 'hidden' ? maskBytesOf(rows) : 0
  const bytes = Buffer.allocUnsafe(
    FRAME_START_BYTES + rows.length * ROW_BYTES + timings.length * TIMING_BYTES + maskBytes
  )
  bytes[0] = VERSION
  bytes[1] = TYPES.indexOf(header.type)
  bytes[2] = header.sample ? FLAG_SAMPLE : 0
  bytes[3] = FLOAT32
  bytes.writeUInt16LE(rows.length, 4)
  bytes.writeUInt16LE(timings.length, 6)
  bytes.writeUInt32LE(header.tokens, 8)
  bytes.writeUInt32LE(header.hiddenSize, 12)
  bytes.writeUInt32LE(payloadBytes, 16)
  bytes.writeUInt32LE(maskBytes, 20)
  let at = FRAME_START_BYTES
  for (const [i, { sessionId, position, epoch = 0 }] of rows.entries()) {
    if (sessionId.length !== 32 || bytes.write(sessionId, at, 16, 'hex') !== 16) {
      throw new InvalidMessageError(`'${sessionId}' is not a session id of 32 hex digits`)
    }
    bytes.writeUInt32LE(position, at + 16)
    bytes.writeUInt32LE(epoch, at + 20)
    bytes.writeUInt32LE(masks[i]?.byteLength ?? 0, at + 24)
    at += ROW_BYTES
  }
  for (const { arrivedAtMs, sentAtMs, computeMs } of timings) {
    bytes.writeDoubleLE(arrivedAtMs, at)
    bytes.writeDoubleLE(sentAtMs, at + 8)
    bytes.writeFloatLE(computeMs, at + 16)
    at += TIMING_BYTES
  }
  for (const mask of masks) {
    if (mask === undefined) continue
    bytes.set(mask, at)
    at += mask.byteLength
  }
  return bytes
}

/**
 * Reads and checks the start of a header. After it, everything that follows is known to be small enough to allocate.
 *
 * @throws {InvalidMessageError} for what no version sends, {LimitExceededError} for what is too large.
 */
export function decodeFrameStart(bytes: Uint8Array): FrameStart {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, FRAME_START_BYTES)
  if (view[0] !== VERSION) throw new InvalidMessageError(`frame version ${view[0]} is not ${VERSION}`)
  const type = TYPES[view[1]!]
  if (type === undefined) throw new InvalidMessageError(`frame type ${view[1]} is unknown`)
  if (view[2]! > FLAG_SAMPLE) throw new InvalidMessageError(`frame flags ${view[2]} are unknown`)
  if (view[3] !== FLOAT32) throw new InvalidMessageError(`frame dtype ${view[3]} is not float32`)
  const start: FrameStart = {
    type,
    rows: view.readUInt16LE(4),
    timings: view.readUInt16LE(6),
    tokens: view.readUInt32LE(8),
    hiddenSize: view.readUInt32LE(12),
    sample: view[2] === FLAG_SAMPLE,
    payloadBytes: view.readUInt32LE(16),
    maskBytes: view.readUInt32LE(20)
  }
  const { rows, timings, tokens, maskBytes, payloadBytes } = start
  if (rows === 0 || rows > MAX_FRAME_ROWS || timings > MAX_FRAME_TIMINGS || tokens > MAX_FRAME_TOKENS) {
    throw new LimitExceededError(
      `a frame of ${rows} sessions, ${timings} stages and ${tokens} tokens exceeds ${MAX_FRAME_ROWS}, ${MAX_FRAME_TIMINGS} or ${MAX_FRAME_TOKENS}`
    )
  }
  if (maskBytes > (type === 'hidden' ? rows * MAX_MASK_BYTES : 0)) {
    throw new LimitExceededError(`masks of ${maskBytes} bytes exceed ${MAX_MASK_BYTES} a session`)
  }
  if (type === 'drop' && (tokens !== 0 || timings !== 0 || payloadBytes !== 0)) {
    throw new InvalidMessageError('a drop frame has nothing behind its sessions')
  }
  if ((type === 'hidden' || type === 'token') && rows > 1 && tokens !== rows) {
    throw new InvalidMessageError(`${rows} sessions have ${tokens} tokens: they must have one each`)
  }
  if (type === 'pooled' && rows !== 1) {
    throw new InvalidMessageError(`a pooled frame is of one session, not of ${rows}`)
  }
  if (type === 'hidden') checkHidden(start, tokens)
  else if (type === 'pooled') checkHidden(start, 1)
  else if (payloadBytes > MAX_SMALL_PAYLOAD_BYTES * rows || start.hiddenSize !== 0) {
    throw new LimitExceededError(
      `a ${type} frame of ${payloadBytes} bytes exceeds ${MAX_SMALL_PAYLOAD_BYTES} a session`
    )
  }
  return start
}

/** Bytes of the masks of some rows, which a frame holds besides its payload for as long as it waits. */
export function maskBytesOf(rows: readonly FrameRow[]): number {
  return rows.reduce((sum, { mask }) => sum + (mask?.byteLength ?? 0), 0)
}

/** Bytes between a header's start and the payload. */
export function frameTailBytes({ rows, timings, maskBytes }: FrameStart): number {
  return rows * ROW_BYTES + timings * TIMING_BYTES + maskBytes
}

/** @throws {InvalidMessageError} or {LimitExceededError} like `decodeFrameStart` */
export function decodeFrameHeader(
  { type, rows, timings, tokens, hiddenSize, sample }: FrameStart,
  tail: Uint8Array
): FrameHeader {
  const view = Buffer.from(tail.buffer, tail.byteOffset, tail.byteLength)
  let maskAt = rows * ROW_BYTES + timings * TIMING_BYTES
  const rowList = Array.from({ length: rows }, (_, i): FrameRow => {
    const at = i * ROW_BYTES
    const row = { sessionId: view.toString('hex', at, at + 16), position: view.readUInt32LE(at + 16) }
    const epoch = view.readUInt32LE(at + 20)
    const maskBytes = view.readUInt32LE(at + 24)
    if (maskBytes > MAX_MASK_BYTES) throw new LimitExceededError(`a mask of ${maskBytes} bytes is too large`)
    // Its own memory: the tail is the reader's.
    const mask = maskBytes > 0 && Uint8Array.from(view.subarray(maskAt, maskAt + maskBytes))
    maskAt += maskBytes
    return { ...row, ...(epoch > 0 && { epoch }), ...(mask && { mask }) }
  })
  if (maskAt !== view.byteLength) throw new InvalidMessageError('masks are not as long as a frame says')
  if (rowList.some(({ position }) => position > MAX_POSITION)) {
    throw new LimitExceededError(`a frame starts behind token ${MAX_POSITION}`)
  }
  const timingList = Array.from({ length: timings }, (_, i) => {
    const at = rows * ROW_BYTES + i * TIMING_BYTES
    return {
      arrivedAtMs: view.readDoubleLE(at),
      sentAtMs: view.readDoubleLE(at + 8),
      computeMs: view.readFloatLE(at + 16)
    }
  })
  for (const times of timingList) {
    for (const ms of Object.values(times)) {
      if (!(ms >= 0 && ms < MAX_TIME_MS)) throw new InvalidMessageError(`frame time ${ms} is not a time`)
    }
  }
  return { type, rows: rowList, tokens, hiddenSize, sample, timings: timingList }
}

/** @param rows that the payload has */
function checkHidden({ tokens, hiddenSize, payloadBytes }: FrameStart, rows: number): void {
  if (tokens === 0 || hiddenSize === 0 || hiddenSize > MAX_HIDDEN_SIZE) {
    throw new LimitExceededError(
      `hidden states (${tokens}, ${hiddenSize}) exceed ${MAX_HIDDEN_SIZE} or are empty`
    )
  }
  if (payloadBytes !== rows * hiddenSize * 4) {
    throw new InvalidMessageError(`${payloadBytes} bytes are not hidden states (${rows}, ${hiddenSize})`)
  }
}

/** Writes for each token how many alternatives it has as u32, then id i32 and logprob f32 of it and of each of them. */
export function encodeTokens(tokens: readonly FrameToken[]): Buffer {
  const lists = tokens.map(token => [token, ...token.top.slice(0, MAX_TOP_LOGPROBS)])
  const bytes = Buffer.allocUnsafe(lists.reduce((sum, list) => sum + 4 + list.length * 8, 0))
  let at = 0
  for (const list of lists) {
    at = bytes.writeUInt32LE(list.length - 1, at)
    for (const { id, logprob } of list) at = bytes.writeFloatLE(logprob, bytes.writeInt32LE(id, at))
  }
  return bytes
}

/** @throws {InvalidMessageError} where they are not exactly `count` tokens */
export function decodeTokens(payload: Uint8Array, count: number): FrameToken[] {
  const view = Buffer.from(payload.buffer, payload.byteOffset, payload.byteLength)
  const malformed = () =>
    new InvalidMessageError(`${payload.byteLength} bytes are not ${count} tokens with their alternatives`)
  let at = 0
  const read = () => {
    if (at + 8 > view.byteLength) throw malformed()
    const id = view.readInt32LE(at)
    const logprob = view.readFloatLE(at + 4)
    at += 8
    if (id < 0 || Number.isNaN(logprob) || logprob > 1e-3) {
      throw new InvalidMessageError(`token ${id} with log-probability ${logprob} is not one`)
    }
    return { id, logprob }
  }
  const tokens = Array.from({ length: count }, () => {
    if (at + 4 > view.byteLength) throw malformed()
    const alternatives = view.readUInt32LE(at)
    at += 4
    if (alternatives > MAX_TOP_LOGPROBS) throw malformed()
    const token = read()
    return { ...token, top: Array.from({ length: alternatives }, read) }
  })
  if (at !== view.byteLength) throw malformed()
  return tokens
}

/** A vector of float32, in memory of its own. */
export function decodePooled(payload: Uint8Array): Float32Array {
  return new Float32Array(payload.slice().buffer)
}

/** A code, a zero byte, a text for people. */
export function encodeFrameError(code: StageCode, message: string): Buffer {
  return Buffer.from(`${code}\0${plainText(message)}`, 'utf8').subarray(0, MAX_SMALL_PAYLOAD_BYTES)
}

export function decodeFrameError(payload: Uint8Array): { code: StageCode; message: string } {
  const [code = '', message = ''] = Buffer.from(payload).toString('utf8').split('\0')
  return { code: stageCode(code), message: plainText(message) }
}
