import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { StepDeadline } from '../../../../node/source/pipeline/step-deadline.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Steps at 0, 1, 2 ... of which the first that is not answered is awaited. */
function played() {
  const late: number[] = []
  let awaitedAt = 0
  const deadline = new StepDeadline(() => awaitedAt)
  return {
    late,
    deadline,
    send: (position: number) =>
      deadline.sent({ position, deadlineMs: 100, onLate: () => void late.push(position) }),
    answer: () => {
      deadline.answered()
      awaitedAt++
      deadline.watch()
    }
  }
}

test('a deadline runs from when all before it is answered', () => {
  const { late, send, answer } = played()
  send(0)
  send(1)
  vi.advanceTimersByTime(90)
  answer()
  vi.advanceTimersByTime(90)
  expect(late).toEqual([])
  vi.advanceTimersByTime(10)
  expect(late).toEqual([1])
})

test('and from when the step itself has left', () => {
  const { late, send, answer } = played()
  send(0)
  answer()
  vi.advanceTimersByTime(1000)
  send(1)
  vi.advanceTimersByTime(99)
  expect(late).toEqual([])
  vi.advanceTimersByTime(1)
  expect(late).toEqual([1])
})

test('what nobody waits for any more is never late', () => {
  const { late, deadline, send } = played()
  send(0)
  send(1)
  deadline.forget()
  vi.advanceTimersByTime(1000)
  expect(late).toEqual([])
  send(0)
  vi.advanceTimersByTime(100)
  expect(late).toEqual([0])
})
