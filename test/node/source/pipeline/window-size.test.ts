import { expect, test } from 'vitest'
import {
  BLOCK_TOKENS,
  MAX_GUESSES,
  PLAIN_TOKENS,
  WindowSize
} from '../../../../node/source/pipeline/window-size.ts'

/** The times of a step through equal stages that waits for its turn at the first one only. */
function timingsOf(stages: number, computeMs: number, linkMs: number, waitMs = 0) {
  const timings = Array.from({ length: stages }, (_, i) => {
    const arrivedAtMs = 1000 + i * (computeMs + linkMs) + (i === 0 ? 0 : waitMs)
    return { arrivedAtMs, sentAtMs: arrivedAtMs + computeMs + (i === 0 ? waitMs : 0), computeMs }
  })
  return { timings, receivedAtMs: 1000 + stages * (computeMs + linkMs) + waitMs }
}

/** Draws tokens without guesses, all of which the draft would have had right, or wrong. */
function seen(right: boolean, { stages = 3, computeMs = 8, linkMs = 10, tokens = 2 * PLAIN_TOKENS } = {}) {
  const size = new WindowSize()
  const { timings, receivedAtMs } = timingsOf(stages, computeMs, linkMs)
  for (let i = 0; i < tokens; i++) {
    size.judged(right)
    size.drawn(54 * i, false)
    size.timed(timings, receivedAtMs, 'clear')
  }
  return size
}

test('nothing is fed before it is known what a token takes', () => {
  expect(seen(true, { tokens: PLAIN_TOKENS - 1 }).guesses).toBe(0)
  expect(seen(true, { tokens: PLAIN_TOKENS - 1 }).probes).toBe(true)
})

test.each([
  [3, 8, 10, 6],
  [3, 8, 0.3, 2],
  [2, 13, 0.3, 1],
  [3, 8, 40, 17],
  [3, 8, 300, MAX_GUESSES]
])(
  '%i stages of %f ms on links of %f ms are kept busy by %i guesses that hold',
  (stages, computeMs, linkMs, guesses) => {
    expect(seen(true, { stages, computeMs, linkMs, tokens: 64 }).guesses).toBe(guesses)
  }
)

test('a draft that is often wrong feeds few guesses, one that always is none, and it is asked again now and then', () => {
  const size = seen(true, { tokens: 16 })
  const counts: number[] = []
  for (let i = 0; i < 40; i++) {
    size.judged(false)
    counts.push(size.guesses)
  }
  expect(counts).toEqual([...counts].sort((a, b) => b - a))
  expect(counts.at(-1)).toBe(0)
  const asked = Array.from({ length: 16 }, (_, i) => {
    size.drawn(10_000 + 54 * i, false)
    return size.probes
  })
  expect(asked.filter(Boolean)).toHaveLength(2)
  for (let i = 0; i < 8; i++) size.judged(true)
  expect(size.guesses).toBeGreaterThan(0)
})

test('none is fed while others keep the stages busy, and some again when they are through', () => {
  const size = seen(true)
  const busy = timingsOf(3, 8, 10, 40)
  for (let i = 0; i < 8; i++) size.timed(busy.timings, busy.receivedAtMs, 'clear')
  expect(size.guesses).toBe(0)
  const idle = timingsOf(3, 8, 10)
  for (let i = 0; i < 32; i++) size.timed(idle.timings, idle.receivedAtMs, 'clear')
  expect(size.guesses).toBeGreaterThan(3)
})

test('where a wrong guess is in the way of the right token, fewer are under way, but one', () => {
  const size = seen(true, { tokens: 64 })
  const before = size.guesses
  const [slow, clear] = [timingsOf(3, 8, 10, 7), timingsOf(3, 8, 10)]
  const after = (count: number) => {
    for (let i = 0; i < count; i++) {
      size.timed(slow.timings, slow.receivedAtMs, 'behind')
      size.timed(clear.timings, clear.receivedAtMs)
    }
    return size.guesses
  }
  expect(after(8)).toBeLessThan(before)
  expect(after(200)).toBe(1)
  for (let i = 0; i < 200; i++) size.timed(clear.timings, clear.receivedAtMs, 'behind')
  expect(size.guesses).toBe(before)
})

test('guesses that bring no token sooner are left out for a while, each time longer', () => {
  const size = seen(true)
  const rests: number[] = []
  let atMs = 1000
  const draw = (ms: number, speculated: boolean) => {
    atMs += ms
    size.drawn(atMs, speculated)
  }
  for (let time = 0; time < 3; time++) {
    // One more than a block, whose first token only says when it begins.
    for (let i = 0; i <= BLOCK_TOKENS; i++) draw(60, true)
    let rest = 0
    for (; size.guesses === 0; rest++) draw(54, false)
    rests.push(rest)
  }
  expect(rests).toEqual([BLOCK_TOKENS, 2 * BLOCK_TOKENS, 4 * BLOCK_TOKENS])
  for (let i = 0; i < 10 * BLOCK_TOKENS; i++) draw(20, true)
  expect(size.guesses).toBeGreaterThan(0)
})

test('the first window is made with what earlier answers have shown', () => {
  const first = (acceptance?: number) => {
    const size = new WindowSize(acceptance)
    const { timings, receivedAtMs } = timingsOf(3, 8, 40)
    for (let i = 0; i < PLAIN_TOKENS; i++) {
      size.drawn(54 * i, false)
      size.timed(timings, receivedAtMs, 'clear')
    }
    return size.guesses
  }
  expect([first(0), first(), first(1)]).toEqual([0, 3, 17])
})

test('a draft that is never right is fed for few tokens of a new answer', () => {
  const size = seen(false, { tokens: PLAIN_TOKENS })
  let guessed = 0
  for (let i = 0; i < 64; i++) {
    const speculated = size.guesses > 0
    if (speculated) guessed++
    size.judged(false)
    size.drawn(1_000 + 54 * i, speculated)
  }
  expect(guessed).toBeGreaterThan(0)
  expect(guessed).toBeLessThanOrEqual(8)
  expect(size.guesses).toBe(0)
})
