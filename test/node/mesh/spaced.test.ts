import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Spaced } from '../../../node/mesh/spaced.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const PAUSE_MS = 1000

function spaced() {
  const actedAtMs: number[] = []
  const startMs = performance.now()
  return { actedAtMs, act: new Spaced(PAUSE_MS, () => actedAtMs.push(performance.now() - startMs)) }
}

test('what is asked for again and again is done at once, and then once in a pause', () => {
  const { act, actedAtMs } = spaced()
  for (let i = 0; i < 25; i++) {
    act.ask()
    vi.advanceTimersByTime(100)
  }
  expect(actedAtMs).toEqual([0, 1000, 2000])
})

test('what something else has done meanwhile is not done again, and is when it is asked for anew', () => {
  const { act, actedAtMs } = spaced()
  act.ask()
  act.ask()
  act.isDone()
  vi.advanceTimersByTime(PAUSE_MS / 2)
  expect(actedAtMs).toEqual([0])
  act.ask()
  vi.advanceTimersByTime(5 * PAUSE_MS)
  expect(actedAtMs).toEqual([0, 1000])
})
