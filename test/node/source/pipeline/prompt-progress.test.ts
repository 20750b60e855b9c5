import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import {
  STEP_DEADLINE_FACTOR,
  STEP_DEADLINE_FLOOR_MS,
  UNPREDICTED_DEADLINE_MS
} from '../../../../node/constants.ts'
import {
  type LatePart,
  PromptProgress,
  type PromptProgressInit,
  WINDOW_TOKENS
} from '../../../../node/source/pipeline/prompt-progress.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

function progressOf(over: Partial<PromptProgressInit> = {}) {
  const late: LatePart[] = []
  const progress = new PromptProgress({
    fromToken: 0,
    keepTokens: 0,
    othersMs: () => 0,
    onLate: part => void late.push(part),
    ...over
  })
  /** Chunks that go in and leave at once; returns the starts of those that are milestones. */
  const chunks = (from: number, count: number, expectedMs: number, size = 32) => {
    const marks: number[] = []
    for (let i = 0; i < count; i++) {
      const position = from + i * size
      if (progress.enter({ position, tokens: Array(size).fill(1) }, expectedMs, false)) marks.push(position)
      progress.sent(position)
    }
    return marks
  }
  return { progress, late, chunks }
}

describe('a milestone', () => {
  test('is behind 256 tokens, or behind a chunk that takes a second', () => {
    expect(progressOf().chunks(0, 17, 1)).toEqual([224, 480])
    expect(progressOf().chunks(0, 3, 1000)).toEqual([0, 32, 64])
    expect(progressOf().chunks(0, 4, 600)).toEqual([32, 96])
    // Single tokens: not each of them, however long they take.
    expect(progressOf().chunks(0, 70, 5000, 1)).toEqual([31, 63])
  })

  test('is not before what the last stage has already; what is before it counts', async () => {
    const { progress, late, chunks } = progressOf({ keepTokens: 640 })
    expect(chunks(0, 21, 100)).toEqual([640])
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FACTOR * 2100 - 1)
    expect(late).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(late).toEqual([{ start: 0, end: 672, deadlineMs: STEP_DEADLINE_FACTOR * 2100 }])
    progress.end()
  })
})

describe('the deadline', () => {
  test('counts what the other answers take of each step', async () => {
    const { late, chunks } = progressOf({ othersMs: () => 500 })
    chunks(0, 8, 100)
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FACTOR * 8 * 600 - 1)
    expect(late).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(late).toHaveLength(1)
  })

  test('begins when the milestone has left this node, and ends when it is through', async () => {
    const { progress, late } = progressOf()
    progress.enter({ position: 0, tokens: Array(256).fill(1) }, 1, false)
    await vi.advanceTimersByTimeAsync(10 * STEP_DEADLINE_FLOOR_MS)
    progress.sent(0)
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FLOOR_MS - 1)
    progress.passed(0)
    await vi.advanceTimersByTimeAsync(10 * STEP_DEADLINE_FLOOR_MS)
    expect(late).toEqual([])
  })

  test('follows what the milestone before took, by its tokens', async () => {
    const { progress, late, chunks } = progressOf()
    chunks(0, 8, 1)
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FLOOR_MS - 1000)
    chunks(256, 8, 1)
    progress.passed(224)
    await vi.advanceTimersByTimeAsync(4 * (STEP_DEADLINE_FLOOR_MS - 1000) - 1)
    expect(late).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(late).toMatchObject([{ start: 256, end: 512 }])
  })

  test('is long where nothing is predicted, until something is known', async () => {
    const { progress, late, chunks } = progressOf()
    chunks(0, 8, 0)
    await vi.advanceTimersByTimeAsync(UNPREDICTED_DEADLINE_MS - 1)
    expect(late).toEqual([])
    chunks(256, 8, 0)
    progress.passed(224)
    expect(progress.expects(224)).toBe(false)
    await vi.advanceTimersByTimeAsync(STEP_DEADLINE_FACTOR * (UNPREDICTED_DEADLINE_MS - 1) - 1)
    expect(late).toEqual([])
    await vi.advanceTimersByTimeAsync(1)
    expect(late).toHaveLength(1)
  })
})

test('what follows waits while a window of tokens is on its way, and goes on when some are through or all is over', async () => {
  const { progress, chunks } = progressOf()
  const next = (position: number) => ({ position, tokens: Array<number>(32).fill(1) })
  chunks(0, WINDOW_TOKENS / 32, 1)
  expect(progress.crowded(next(WINDOW_TOKENS))).toBe(true)
  const moved = progress.moved()
  progress.passed(224)
  await moved
  expect([progress.crowded(next(WINDOW_TOKENS)), progress.crowded(next(WINDOW_TOKENS + 256))]).toEqual([
    false,
    true
  ])
  progress.end()
  expect(progress.crowded(next(WINDOW_TOKENS + 256))).toBe(false)
})
