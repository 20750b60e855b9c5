import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { Trials } from '../../../node/page/trials.ts'
import type { Change } from '../../../node/page/what-if.ts'
import type { Refusal } from '../../../node/plan/problem.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const memory = (memoryBytes: number): readonly Change[] => [{ kind: 'memory', device: 'a', memoryBytes }]
const REFUSAL = { feasible: false, reason: 'too small' } as Refusal
const askedFor = (ask: ReturnType<typeof vi.fn>) => ask.mock.calls.map(([changes]) => changes)

test('while changes go on one plan after another is asked for, and the last one is for the last of them', async () => {
  const ask = vi.fn(async (): Promise<Refusal> => {
    await new Promise(resolve => setTimeout(resolve, 40))
    return REFUSAL
  })
  const trials = new Trials(ask)
  const seen: unknown[] = []
  trials.answer.watch(() => seen.push(trials.answer.value?.changes))
  const all = Array.from({ length: 30 }, (_, i) => memory(i))
  for (const changes of all) {
    trials.want(changes)
    await vi.advanceTimersByTimeAsync(10)
  }
  await vi.advanceTimersByTimeAsync(1000)
  // 300 ms of dragging, a plan of 40 ms and a pause of 100.
  expect(ask).toHaveBeenCalledTimes(4)
  expect(askedFor(ask)[0]).toBe(all[0])
  expect(seen).toEqual(askedFor(ask))
  expect(trials.answer.value).toEqual({ changes: all.at(-1), result: REFUSAL })
  expect(vi.getTimerCount()).toBe(0)
})

test('what is wanted no more is not shown, and what goes wrong is said', async () => {
  let answer = (_: Refusal) => {}
  const ask = vi.fn((): Promise<Refusal> => new Promise(resolve => (answer = resolve)))
  const trials = new Trials(ask)
  trials.want(memory(1))
  trials.want(undefined)
  answer(REFUSAL)
  await vi.advanceTimersByTimeAsync(1000)
  expect(trials.answer.value).toBeUndefined()
  ask.mockRejectedValueOnce(new Error('no'))
  trials.want(memory(2))
  await vi.advanceTimersByTimeAsync(1000)
  expect(trials.answer.value).toEqual({ changes: memory(2), problem: 'no' })
})

test('one that is left asks no more', async () => {
  const signals: AbortSignal[] = []
  const ask = vi.fn(async (_: readonly Change[], signal: AbortSignal): Promise<Refusal> => {
    signals.push(signal)
    await new Promise(resolve => setTimeout(resolve, 40))
    return REFUSAL
  })
  const trials = new Trials(ask)
  trials.want(memory(1))
  trials.want(memory(2))
  trials.stop()
  await vi.advanceTimersByTimeAsync(1000)
  expect(ask).toHaveBeenCalledTimes(1)
  expect(signals[0]!.aborted).toBe(true)
  expect(trials.answer.value).toBeUndefined()
})
