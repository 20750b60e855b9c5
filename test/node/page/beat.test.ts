import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Beat } from '../../../node/page/beat.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('what comes in is done at most ten times a second, once for all of it, and at once after a pause', () => {
  const beat = new Beat()
  const [show, other] = [vi.fn(), vi.fn()]
  beat.soon(show)
  vi.advanceTimersByTime(1)
  expect(show).toHaveBeenCalledTimes(1)
  for (let ms = 0; ms < 1000; ms += 5) {
    beat.soon(show)
    beat.soon(other)
    vi.advanceTimersByTime(5)
  }
  expect(show.mock.calls.length).toBeLessThanOrEqual(11)
  expect(show.mock.calls.length).toBeGreaterThanOrEqual(10)
  vi.advanceTimersByTime(1000)
  expect(vi.getTimerCount()).toBe(0)
  const before = show.mock.calls.length
  beat.soon(show)
  vi.advanceTimersByTime(1)
  expect(show).toHaveBeenCalledTimes(before + 1)
})

test('what is dropped is not done, and the rest is', () => {
  const beat = new Beat()
  const [show, other] = [vi.fn(), vi.fn()]
  beat.soon(show)
  beat.soon(other)
  beat.drop(show)
  vi.advanceTimersByTime(200)
  expect([show, other].map(work => work.mock.calls.length)).toEqual([0, 1])
})
