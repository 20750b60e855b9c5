import { expect, test } from 'vitest'
import {
  decodeFrameError,
  decodeFrameHeader,
  decodeToken,
  encodeFrameError,
  encodeFrameHeader,
  encodeToken,
  type FrameHeader
} from '../../protocols/frame.ts'

const header: FrameHeader = {
  type: 'hidden',
  sessionId: '0123456789abcdef'.repeat(2),
  position: 70_000,
  tokens: 3,
  hiddenSize: 64,
  sample: true,
  computeMs: 1.5
}

test('a header comes back as it was', () => {
  expect(decodeFrameHeader(encodeFrameHeader(header, 768))).toEqual({ header, payloadBytes: 768 })
})

test.each([
  ['another version', (b: Buffer) => b.writeUInt8(2, 0), 'InvalidMessageError'],
  ['an unknown type', (b: Buffer) => b.writeUInt8(9, 1), 'InvalidMessageError'],
  ['unknown flags', (b: Buffer) => b.writeUInt8(2, 2), 'InvalidMessageError'],
  ['another dtype', (b: Buffer) => b.writeUInt8(7, 3), 'InvalidMessageError'],
  ['a payload of another size', (b: Buffer) => b.writeUInt32LE(772, 36), 'InvalidMessageError'],
  ['no tokens', (b: Buffer) => b.writeUInt32LE(0, 24), 'LimitExceededError'],
  ['too many tokens', (b: Buffer) => b.writeUInt32LE(513, 24), 'LimitExceededError'],
  ['too wide hidden states', (b: Buffer) => b.writeUInt32LE(0xffffffff, 28), 'LimitExceededError'],
  ['a position beyond every context', (b: Buffer) => b.writeUInt32LE(0xffffffff, 20), 'LimitExceededError'],
  ['a time that is none', (b: Buffer) => b.writeFloatLE(Number.NaN, 32), 'InvalidMessageError']
])('a header with %s is refused before anything is allocated', (_, change, name) => {
  const bytes = encodeFrameHeader(header, 768)
  change(bytes)
  expect(() => decodeFrameHeader(bytes)).toThrow(expect.objectContaining({ name }))
})

test('a token frame may not carry a megabyte', () => {
  const bytes = encodeFrameHeader({ ...header, type: 'token', hiddenSize: 0 }, 2 ** 20)
  expect(() => decodeFrameHeader(bytes)).toThrow('exceeds 2048')
})

test('a session id must be 32 hex digits', () => {
  for (const sessionId of ['', 'ab', 'g'.repeat(32), 'a'.repeat(34)]) {
    expect(() => encodeFrameHeader({ ...header, sessionId }, 768)).toThrow('session id')
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
  expect(decodeToken(encodeToken(token))).toEqual(token)
  expect(() => decodeToken(new Uint8Array(22 * 8))).toThrow('not a token')
  expect(() => decodeToken(Buffer.from(encodeToken({ id: 1, logprob: Number.NaN, top: [] })))).toThrow(
    'not one'
  )
  const long = decodeFrameError(encodeFrameError('full', `no\nroom\u001b[2J${'x'.repeat(5000)}`))
  expect(long.code).toBe('full')
  expect(long.message).toMatch(/^no room \[2Jx+…$/)
  expect(long.message.length).toBeLessThanOrEqual(500)
})
