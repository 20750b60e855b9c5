import { expect, test, vi } from 'vitest'
import { CHUNK_BYTES } from '../../../protocols/constants.ts'
import {
  MAX_PENDING_FRAME_BYTES,
  MAX_PENDING_FRAMES,
  MAX_REFUSED_FRAMES_PER_SECOND
} from '../../../protocols/stage/constants.ts'
import { encodeFrameHeader, encodeTokens, type FrameHeader } from '../../../protocols/stage/frame.ts'
import { FrameReader, type FrameSink } from '../../../protocols/stage/frame-reader.ts'
import { FeedStream } from '../feed-stream.ts'

const base = {
  rows: [{ sessionId: 'ab'.repeat(16), position: 0 }],
  tokens: 1,
  sample: false,
  timings: [{ arrivedAtMs: 1, sentAtMs: 2, computeMs: 1 }]
}

function reader(sink: Partial<FrameSink> = {}, waiting?: Set<FrameReader>) {
  const feed = new FeedStream()
  const got: { header: FrameHeader; payload: Uint8Array }[] = []
  const whole: FrameSink = {
    allocate: ({ tokens, hiddenSize }) => new Float32Array(new SharedArrayBuffer(tokens * hiddenSize * 4)),
    onFrame: (header, payload) => void got.push({ header, payload }),
    onBytes: () => {},
    ...sink
  }
  new FrameReader(feed.stream, whole, waiting)
  return { feed, got }
}

function hiddenFrame(values: number[]): Buffer {
  const payload = Buffer.from(Float32Array.from(values).buffer)
  const header: FrameHeader = { ...base, type: 'hidden', hiddenSize: values.length }
  return Buffer.concat([encodeFrameHeader(header, payload.byteLength), payload])
}

const tokenFrame = () => {
  const payload = encodeTokens([{ id: 3, logprob: -1, top: [] }])
  return Buffer.concat([
    encodeFrameHeader({ ...base, type: 'token', hiddenSize: 0 }, payload.byteLength),
    payload
  ])
}
/** Without stages behind it and without a payload. */
const emptyFrame = () => encodeFrameHeader({ ...base, type: 'error', hiddenSize: 0, timings: [] }, 0)

test.each([1, 3, 39, 40, 41, 1000])('frames are found in pieces of %i bytes', size => {
  const { feed, got } = reader()
  const bytes = Buffer.concat([
    hiddenFrame([1, -2, 3.5]),
    emptyFrame(),
    tokenFrame(),
    emptyFrame(),
    hiddenFrame([4])
  ])
  for (let at = 0; at < bytes.byteLength; at += size) feed.feed(bytes.subarray(at, at + size))
  expect(got.map(({ header }) => header.type)).toEqual(['hidden', 'error', 'token', 'error', 'hidden'])
  expect(new Float32Array(got[0]!.payload.slice().buffer)).toEqual(Float32Array.of(1, -2, 3.5))
})

test('refused frames are skipped without allocating, and a flood of them ends the stream', () => {
  const { feed, got } = reader({ allocate: () => null })
  feed.feed(Buffer.concat([hiddenFrame([1, 2]), tokenFrame()]))
  expect(got.map(({ header }) => header.type)).toEqual(['token'])
  // All within one second of a clock that stands.
  vi.useFakeTimers({ toFake: ['performance'] })
  for (let i = 0; i < MAX_REFUSED_FRAMES_PER_SECOND + 1; i++) feed.feed(hiddenFrame([1, 2]))
  vi.useRealTimers()
  expect(feed.error?.name).toBe('LimitExceededError')
})

test('a consumer that does not keep up pauses the stream, and resumes it when it has', async () => {
  const release: (() => void)[] = []
  const { feed } = reader({ onFrame: () => new Promise<void>(resolve => release.push(resolve)) })
  while (feed.readStatus === 'readable') feed.feed(tokenFrame())
  expect(release.length).toBe(MAX_PENDING_FRAMES + 1)
  for (const resolve of release.slice(0, MAX_PENDING_FRAMES / 2 + 1)) resolve()
  await new Promise(resolve => setImmediate(resolve))
  expect(feed.readStatus).toBe('readable')
})

test('streams whose frames wait share the memory that these may take', async () => {
  const waiting = new Set<FrameReader>()
  const frame = hiddenFrame(Array(16_384).fill(1))
  const held: (() => void)[] = []
  const onFrame = () => new Promise<void>(resolve => held.push(resolve))
  const [first, second, third] = [1, 2, 3].map(() => reader({ onFrame }, waiting).feed)
  const countUntilPaused = (feed: FeedStream) => {
    let count = 0
    for (; feed.readStatus === 'readable'; count++) feed.feed(frame)
    return count
  }
  const alone = Math.floor(MAX_PENDING_FRAME_BYTES / (16_384 * 4)) + 1
  const limited = (share: number) => Math.min(MAX_PENDING_FRAMES + 1, Math.floor(share * (alone - 1)) + 1)
  expect([first!, second!, third!].map(countUntilPaused)).toEqual([
    limited(1),
    limited(1 / 2),
    limited(1 / 3)
  ])
  for (const resolve of held) resolve()
  await new Promise(resolve => setImmediate(resolve))
  expect([first!, second!, third!].map(({ readStatus }) => readStatus)).toEqual(Array(3).fill('readable'))
  expect(waiting.size).toBe(0)
})

test('what throws in a handler ends the stream, not the process', async () => {
  const thrown = reader({
    onFrame: () => {
      throw new Error('handler')
    }
  })
  thrown.feed.feed(tokenFrame())
  expect(thrown.feed.error?.message).toBe('handler')
  const rejected = reader({ onFrame: () => Promise.reject(new Error('later')) })
  rejected.feed.feed(tokenFrame())
  await new Promise(resolve => setImmediate(resolve))
  expect(rejected.feed.error?.message).toBe('later')
})

test('half a frame is waited for as long as more of it comes, or this side holds it back', () => {
  vi.useFakeTimers()
  try {
    const { feed, got } = reader()
    const frame = hiddenFrame([1, 2, 3])
    const parts = [frame.subarray(0, 10), frame.subarray(10, -6), frame.subarray(-6, -1), frame.subarray(-1)]
    for (const part of parts.slice(0, 3)) {
      feed.feed(part)
      vi.advanceTimersByTime(10_000)
    }
    feed.pause()
    vi.advanceTimersByTime(60_000)
    feed.resume()
    feed.feed(parts[3]!)
    expect(got.length).toBe(1)
    vi.advanceTimersByTime(60_000)
    expect(feed.error).toBe(undefined)
    feed.feed(frame.subarray(0, 50))
    vi.advanceTimersByTime(20_000)
    expect(feed.error).toMatchObject({ name: 'DeadlineError' })
  } finally {
    vi.useRealTimers()
  }
})

test('a payload of several pieces is timed behind its first one, a long one in parts, and a small one not', () => {
  vi.useFakeTimers()
  try {
    const timed: [bytes: number, ms: number][] = []
    const { feed } = reader({ onTransfer: (bytes, ms) => timed.push([bytes, ms]) })
    const arrive = (frame: Buffer, everyMs: number) => {
      for (let at = 0; at < frame.byteLength; at += CHUNK_BYTES) {
        feed.feed(frame.subarray(at, at + CHUNK_BYTES))
        vi.advanceTimersByTime(everyMs)
      }
    }
    const frameOf = (chunks: number) => {
      const payload = Buffer.alloc(chunks * CHUNK_BYTES)
      const header: FrameHeader = {
        ...base,
        type: 'hidden',
        tokens: 4 * chunks,
        hiddenSize: CHUNK_BYTES / 16
      }
      return Buffer.concat([encodeFrameHeader(header, payload.byteLength), payload])
    }
    arrive(frameOf(1), 50)
    expect(timed).toEqual([])
    // Seven pieces came behind the first one, and a little more: in that is the frame's head.
    arrive(frameOf(8), 5)
    expect(timed.length).toBe(1)
    expect(timed[0]![1]).toBe(40)
    expect(timed[0]![0] / CHUNK_BYTES).toBeCloseTo(7, 1)
    timed.length = 0
    arrive(frameOf(12), 100)
    expect(timed.length).toBe(4)
    // The last part ends with that little more, which came as late as a whole piece.
    for (const [bytes, ms] of timed.slice(0, -1)) expect(bytes / ms / (CHUNK_BYTES / 100)).toBeCloseTo(1, 1)
  } finally {
    vi.useRealTimers()
  }
})

test('the time that this side held a payload back is none of its link', () => {
  vi.useFakeTimers()
  try {
    const timed: [bytes: number, ms: number][] = []
    const { feed } = reader({ onTransfer: (bytes, ms) => timed.push([bytes, ms]) })
    const payload = Buffer.alloc(8 * CHUNK_BYTES)
    const header: FrameHeader = { ...base, type: 'hidden', tokens: 32, hiddenSize: CHUNK_BYTES / 16 }
    const frame = Buffer.concat([encodeFrameHeader(header, payload.byteLength), payload])
    const pieces = Array.from({ length: 9 }, (_, i) => frame.subarray(i * CHUNK_BYTES, (i + 1) * CHUNK_BYTES))
    // The piece in hand when others fill what may wait is read to its end.
    feed.pause()
    feed.feed(pieces[0]!)
    vi.advanceTimersByTime(2000)
    feed.resume()
    for (const piece of pieces.slice(1)) {
      feed.feed(piece)
      vi.advanceTimersByTime(5)
    }
    expect(timed.map(([, ms]) => ms)).toEqual([35])
  } finally {
    vi.useRealTimers()
  }
})
