import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  LOAD_LEAST_FETCH_MBPS_MAX,
  LOAD_QUIET_FLOOR_MS,
  LOAD_READ_BYTES_PER_MS,
  LOAD_RESTARTS,
  LOAD_WINDOW_MS
} from '../../../../node/constants.ts'
import { LoadPace } from '../../../../node/source/placement/load-pace.ts'
import { LOAD_PROGRESS_MS } from '../../../../protocols/lease/constants.ts'
import { stopClock } from '../../simulation/clock.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

const BYTES = 100_000_000
const READ_TWICE_MS = (2 * BYTES) / LOAD_READ_BYTES_PER_MS
const QUIET_MS = LOAD_QUIET_FLOOR_MS + READ_TWICE_MS
const weights = (done: number, total = BYTES) => ({ phase: 'weights' as const, done, total })
const load = (done: number) => ({ phase: 'load' as const, done, total: 1 })
const reasonOf = (pace: LoadPace) => pace.signal.reason?.message

/** What the peer says every so often, until it is left. @returns how long that took, in ms */
function leftAfterMs(pace: LoadPace, say: () => void, everyMs = 5000): number {
  const startMs = Date.now()
  while (!pace.signal.aborted) {
    if (Date.now() - startMs > 100 * QUIET_MS) throw new Error('it is never left')
    say()
    vi.advanceTimersByTime(everyMs)
  }
  return Date.now() - startMs
}

describe('words without bytes renew nothing', () => {
  test.each([
    ['parts of a byte', () => weights(Math.random())],
    ['nothing of what is missing', () => weights(0)],
    ['more than there is', () => weights(2, 1)],
    ['of more than the range has', () => weights(1000 * Date.now(), 1e15)]
  ])('%s', (_, said) => {
    const pace = new LoadPace({ bytes: BYTES, mbps: undefined })
    const ms = leftAfterMs(pace, () => expect(pace.reported(said())).toBe(false))
    expect(ms).toBeLessThanOrEqual(QUIET_MS + 5000)
    expect(reasonOf(pace)).toContain('neither fetched nor loaded')
  })

  test('bytes that go up and down', () => {
    const pace = new LoadPace({ bytes: BYTES, mbps: 1000 })
    let at = 0
    const ms = leftAfterMs(pace, () => void pace.reported(weights(at++ % 2 === 0 ? 5_000_000 : 1)))
    // Each drop that counts takes one word, and so does what came before it.
    expect(ms).toBeLessThanOrEqual(2 * LOAD_RESTARTS * 5000 + LOAD_WINDOW_MS + 5000)
    expect(reasonOf(pace)).toMatch(/it has fetched \d+ bytes in 45 s/)
  })

  test('all bytes, and then none, again and again', () => {
    const pace = new LoadPace({ bytes: BYTES, mbps: 1000 })
    const ends = [BYTES, 1]
    const ms = leftAfterMs(
      pace,
      () => {
        pace.reported(weights(ends[0]!))
        ends.reverse()
      },
      LOAD_QUIET_FLOOR_MS
    )
    expect(ms).toBeLessThanOrEqual((2 * LOAD_RESTARTS + 2) * LOAD_QUIET_FLOOR_MS + QUIET_MS)
  })

  test('loading that is never through, however it is divided', () => {
    const pace = new LoadPace({ bytes: BYTES, mbps: 1000 })
    let share = 0
    const ms = leftAfterMs(pace, () => {
      share += (1 - share) / 1000
      pace.reported(load(share))
      pace.reported(weights(BYTES))
    })
    expect(ms).toBeLessThanOrEqual(QUIET_MS + 5000)
    expect(reasonOf(pace)).toContain('it has its weights and does not load them')
  })
})

test('bytes that trickle are left as those of a holder are', () => {
  const windowBytes = (LOAD_LEAST_FETCH_MBPS_MAX * 1000 * LOAD_WINDOW_MS) / 8
  const trickle = (share: number) => {
    const pace = new LoadPace({ bytes: BYTES, mbps: 1000 })
    let bytes = 0
    return leftAfterMs(pace, () => {
      bytes = Math.min(BYTES, bytes + (share * windowBytes * 5000) / LOAD_WINDOW_MS)
      pace.reported(weights(bytes))
    })
  }
  expect(trickle(0.5)).toBeLessThanOrEqual(LOAD_WINDOW_MS + 5000)
  expect(trickle(2)).toBeGreaterThan(5 * LOAD_WINDOW_MS)
})

describe('a slow device that is honest is not left', () => {
  test('with an SD card on which its files are read twice', () => {
    const pace = new LoadPace({ bytes: BYTES, mbps: 100 })
    vi.advanceTimersByTime(READ_TWICE_MS)
    pace.reported(load(0))
    vi.advanceTimersByTime(READ_TWICE_MS)
    expect(pace.reported(load(1))).toBe(true)
    expect(pace.signal.aborted).toBe(false)
    pace.end()
  })

  test('that waits for its memory before it loads', () => {
    const pace = new LoadPace({ bytes: BYTES, mbps: 100 })
    pace.reported(weights(BYTES))
    vi.advanceTimersByTime(QUIET_MS - 1)
    pace.reported(load(0))
    vi.advanceTimersByTime(QUIET_MS - 1)
    expect(pace.signal.aborted).toBe(false)
    pace.end()
  })

  test.each([
    ['0.1 Mbps', 0.1],
    ['10 Mbps that ten share', 1],
    ['a link that nobody measured', undefined]
  ])('over %s, with a word every 10 s', (_, mbps) => {
    const bytes = 2_000_000
    const pace = new LoadPace({ bytes, mbps: mbps && 10 * mbps })
    const bytesAWord = ((mbps ?? 0.05) * 1000 * LOAD_PROGRESS_MS) / 8
    for (let done = bytesAWord; done < bytes; done += bytesAWord) {
      vi.advanceTimersByTime(LOAD_PROGRESS_MS)
      expect(pace.reported(weights(done, bytes))).toBe(true)
    }
    pace.reported(weights(bytes, bytes))
    vi.advanceTimersByTime(LOAD_QUIET_FLOOR_MS)
    expect(pace.signal.aborted).toBe(false)
    pace.end()
  })

  test.each([
    ['all bytes', BYTES],
    ['most of them', 0.9 * BYTES]
  ])('whose holders have sent it damaged files, noticed after %s', (_, before) => {
    const pace = new LoadPace({ bytes: BYTES, mbps: 10 })
    for (let time = 0; time < LOAD_RESTARTS; time++) {
      expect(pace.reported(weights(before))).toBe(true)
      vi.advanceTimersByTime(LOAD_PROGRESS_MS)
      expect(pace.reported(weights(1_000_000))).toBe(false)
      vi.advanceTimersByTime(LOAD_WINDOW_MS - LOAD_PROGRESS_MS)
      expect(pace.reported(weights(0.5 * BYTES))).toBe(true)
      vi.advanceTimersByTime(LOAD_WINDOW_MS - LOAD_PROGRESS_MS)
    }
    pace.reported(weights(BYTES))
    pace.reported(load(0))
    vi.advanceTimersByTime(LOAD_QUIET_FLOOR_MS)
    expect(pace.signal.aborted).toBe(false)
    pace.end()
  })

  test('whose holder stalls until it is given up', () => {
    const pace = new LoadPace({ bytes: BYTES, mbps: 1000 })
    pace.reported(weights(1000))
    vi.advanceTimersByTime(35_000)
    pace.reported(weights(90_000_000))
    vi.advanceTimersByTime(35_000)
    expect(pace.signal.aborted).toBe(false)
    pace.end()
  })
})

test('what has ended is not left any more', () => {
  const pace = new LoadPace({ bytes: BYTES, mbps: 1000 })
  pace.end()
  vi.advanceTimersByTime(2 * QUIET_MS)
  expect(pace.signal.aborted).toBe(false)
})
