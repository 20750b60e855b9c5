import { expect, test } from 'vitest'
import { FrameDelays } from '../../../node/mesh/frame-delays.ts'
import { prng } from '../../fixtures/prng.ts'

const HIDDEN_BYTES = 16_384

interface Way {
  mbps?: number
  wayMs?: number
  clockMs?: number
  bytes?: number
  everyMs?: number
  jitterMs?: () => number
}

/** Frames of one sender over a link that is taken for 100 Mbps. */
class Frames {
  atMs = 0
  readonly #delays = new FrameDelays()

  /** @returns after how many ms of these frames the link was doubted; undefined where it never was */
  doubtedAfterMs(count: number, way: Way = {}): number | undefined {
    const { mbps = 100, wayMs = 2, clockMs = 123_456, bytes = HIDDEN_BYTES, everyMs = 40 } = way
    const fromMs = this.atMs
    for (let i = 0; i < count; i++) {
      this.atMs += everyMs
      const delayMs = clockMs + wayMs + (8 * bytes) / (1000 * mbps) + (way.jitterMs?.() ?? 0)
      if (this.#delays.add({ bytes, delayMs }, this.atMs, 100)) return this.atMs - fromMs
    }
    return undefined
  }
}

test('frames of one size that begin to take longer are noticed within 1.5 s, and so are those that take less', () => {
  const frames = new Frames()
  expect(frames.doubtedAfterMs(200)).toBeUndefined()
  expect(frames.doubtedAfterMs(100, { mbps: 5 })).toBeLessThan(1500)
  const slow = new Frames()
  expect(slow.doubtedAfterMs(200, { wayMs: 30 })).toBeUndefined()
  expect(slow.doubtedAfterMs(100, { wayMs: 2 })).toBeLessThan(1500)
})

test('frames of all sizes that the known rate explains are no reason for doubt, and jitter is none', () => {
  const random = prng(3)
  const jitterMs = () => 40 * random() ** 3
  const frames = new Frames()
  for (let i = 0; i < 60; i++) {
    const bytes = [200, HIDDEN_BYTES, 8 * HIDDEN_BYTES][i % 3]!
    expect(frames.doubtedAfterMs(10, { bytes, jitterMs, everyMs: 60 })).toBeUndefined()
  }
})

test('of tiny frames a lower rate is not seen, and a longer way is', () => {
  const frames = new Frames()
  expect(frames.doubtedAfterMs(200, { bytes: 200 })).toBeUndefined()
  expect(frames.doubtedAfterMs(200, { bytes: 200, mbps: 5 })).toBeUndefined()
  expect(frames.doubtedAfterMs(200, { bytes: 200, mbps: 5, wayMs: 40 })).toBeLessThan(1500)
})

test('clocks that drift apart are no reason for doubt, a clock that is set is one', () => {
  const frames = new Frames()
  let clockMs = 0
  // 50 millionths, for ten minutes.
  for (let i = 0; i < 3000; i++) {
    clockMs += 200 * 50e-6
    expect(frames.doubtedAfterMs(1, { clockMs, everyMs: 200 })).toBeUndefined()
  }
  expect(frames.doubtedAfterMs(100, { clockMs: clockMs + 5000 })).toBeLessThan(1500)
})

test('times that are no numbers say nothing', () => {
  const delays = new FrameDelays()
  for (const delayMs of [Number.NaN, Number.NEGATIVE_INFINITY])
    for (let i = 0; i < 100; i++) expect(delays.add({ bytes: 100, delayMs }, 100 * i, 100)).toBe(false)
})
