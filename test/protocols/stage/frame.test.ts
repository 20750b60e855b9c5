import { expect, test } from 'vitest'
import {
  decodeFrameError,
  decodeFrameHeader,
  decodeFrameStart,
  decodeTokens,
  encodeFrameError,
  encodeFrameHeader,
  encodeTokens,
  FRAME_START_BYTES,
  type FrameHeader,
  frameTailBytes
} from '../../../protocols/stage/frame.ts'

const header: FrameHeader = {
  type: 'hidden',
  rows: [
    { sessionId: '0123456789abcdef'.repeat(2), position: 70_000, epoch: 5 },
    { sessionId: 'fedcba9876543210'.repeat(2), position: 3, mask: Uint8Array.of(1, 2, 3) }
  ],
  tokens: 2,
  hiddenSize: 64,
  sample: true,
  timings: [{ arrivedAtMs: 1_795_000_000_000.25, sentAtMs: 1_795_000_000_002.5, computeMs: 1.5 }]
}
const PAYLOAD_BYTES = 2 * 64 * 4
/** Where the first row and the first timing begin. */
const ROW = FRAME_START_BYTES
const TIMING = ROW + 2 * 28

function decode(bytes: Buffer): { header: FrameHeader; payloadBytes: number } {
  const start = decodeFrameStart(bytes)
  const tail = bytes.subarray(FRAME_START_BYTES)
  expect(tail.byteLength).toBe(frameTailBytes(start))
  return { header: decodeFrameHeader(start, tail), payloadBytes: start.payloadBytes }
}

test('a header comes back as it was', () => {
  const bytes = encodeFrameHeader(header, PAYLOAD_BYTES)
  expect(decode(bytes)).toEqual({ header, payloadBytes: PAYLOAD_BYTES })
})

test.each([
  ['another version', (b: Buffer) => b.writeUInt8(1, 0), 'InvalidMessageError'],
  ['an unknown type', (b: Buffer) => b.writeUInt8(9, 1), 'InvalidMessageError'],
  ['unknown flags', (b: Buffer) => b.writeUInt8(2, 2), 'InvalidMessageError'],
  ['another dtype', (b: Buffer) => b.writeUInt8(7, 3), 'InvalidMessageError'],
  ['no session', (b: Buffer) => b.writeUInt16LE(0, 4), 'LimitExceededError'],
  ['too many sessions', (b: Buffer) => b.writeUInt16LE(257, 4), 'LimitExceededError'],
  ['too many stages', (b: Buffer) => b.writeUInt16LE(257, 6), 'LimitExceededError'],
  ['two tokens of one of two sessions', (b: Buffer) => b.writeUInt32LE(3, 8), 'InvalidMessageError'],
  ['no tokens', (b: Buffer) => b.writeBigUInt64LE(1n, 4), 'LimitExceededError'],
  ['too many tokens', (b: Buffer) => b.writeUInt32LE(513, 8), 'LimitExceededError'],
  ['too wide hidden states', (b: Buffer) => b.writeUInt32LE(0xffffffff, 12), 'LimitExceededError'],
  ['a payload of another size', (b: Buffer) => b.writeUInt32LE(516, 16), 'InvalidMessageError'],
  ['masks that are too large', (b: Buffer) => b.writeUInt32LE(3 * 33_024, 20), 'LimitExceededError'],
  ['a mask that is too large', (b: Buffer) => b.writeUInt32LE(33_025, ROW + 24), 'LimitExceededError'],
  ['masks of another size', (b: Buffer) => b.writeUInt32LE(2, ROW + 28 + 24), 'InvalidMessageError'],
  [
    'a position beyond every context',
    (b: Buffer) => b.writeUInt32LE(0xffffffff, ROW + 16),
    'LimitExceededError'
  ],
  ['a time that is none', (b: Buffer) => b.writeDoubleLE(Number.NaN, TIMING), 'InvalidMessageError'],
  ['a time before all', (b: Buffer) => b.writeFloatLE(-1, TIMING + 16), 'InvalidMessageError']
])('a header with %s is refused before anything is allocated', (_, change, name) => {
  const bytes = encodeFrameHeader(header, PAYLOAD_BYTES)
  change(bytes)
  const read = () => decodeFrameHeader(decodeFrameStart(bytes), bytes.subarray(FRAME_START_BYTES))
  expect(read).toThrow(expect.objectContaining({ name }))
})

test('only frames of hidden states carry masks', () => {
  const bytes = encodeFrameHeader({ ...header, type: 'token', hiddenSize: 0 }, 16)
  const { rows } = decode(bytes).header
  expect(rows.map(({ mask }) => mask)).toEqual([undefined, undefined])
  bytes.writeUInt32LE(3, 20)
  expect(() => decodeFrameStart(bytes)).toThrow('masks of 3 bytes')
})

test('a token frame may not carry a megabyte', () => {
  const bytes = encodeFrameHeader({ ...header, type: 'token', hiddenSize: 0 }, 2 ** 20)
  expect(() => decodeFrameStart(bytes)).toThrow('exceeds 2048 a session')
})

test('a session id must be 32 hex digits', () => {
  for (const sessionId of ['', 'ab', 'g'.repeat(32), 'a'.repeat(34)]) {
    const rows = [{ sessionId, position: 0 }]
    expect(() => encodeFrameHeader({ ...header, rows, tokens: 1 }, 256)).toThrow('session id')
  }
})

test('tokens and errors come back as they were, within their caps', () => {
  const token = {
    id: 5,
    logprob: -0.25,
    top: [
      { id: 5, logprob: -0.25 },
      { id: 9, logprob: -3.5 }
    ]
  }
  const plain = { id: 7, logprob: -1, top: [] }
  const bytes = encodeTokens([token, plain])
  expect(decodeTokens(bytes, 2)).toEqual([token, plain])
  for (const count of [1, 3]) expect(() => decodeTokens(bytes, count)).toThrow(`not ${count} tokens`)
  const many = Buffer.from(bytes)
  many.writeUInt32LE(21, 0)
  expect(() => decodeTokens(many, 2)).toThrow('not 2 tokens')
  expect(() => decodeTokens(encodeTokens([{ ...plain, logprob: Number.NaN }]), 1)).toThrow('not one')
  const long = decodeFrameError(encodeFrameError('next', `no\nroom\u001b[2J${'x'.repeat(5000)}`))
  expect(long.code).toBe('next')
  expect(long.message).toMatch(/^no room \[2Jx+…$/)
  expect(long.message.length).toBeLessThanOrEqual(500)
})
