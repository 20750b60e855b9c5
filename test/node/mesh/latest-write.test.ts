import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { LatestWrite } from '../../../node/mesh/latest-write.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

const WRITE_MS = 100

test('what is asked for while a write is under way is one more write, of what counts then', async () => {
  let counts = 0
  const written: number[] = []
  const file = new LatestWrite(async () => {
    written.push(counts)
    await new Promise(resolve => setTimeout(resolve, WRITE_MS))
  })
  const asked = [file.ask()]
  await vi.advanceTimersByTimeAsync(WRITE_MS / 2)
  for (counts = 1; counts < 50; counts++) asked.push(file.ask())
  expect(file.last).toBe(asked.at(-1))
  const settled = vi.fn()
  void Promise.all(asked).then(settled)
  await vi.advanceTimersByTimeAsync(WRITE_MS / 2)
  // Who has asked meanwhile waits for a write that has begun since.
  expect([written, settled.mock.calls.length]).toEqual([[0, 50], 0])
  await vi.advanceTimersByTimeAsync(WRITE_MS)
  expect([written, settled.mock.calls.length]).toEqual([[0, 50], 1])
})

test('a write that fails rejects for those that asked for it, and the next one is tried', async () => {
  let isFull = true
  const file = new LatestWrite(async () => {
    if (isFull) throw new Error('the disk is full')
  })
  await expect(file.ask()).rejects.toThrow('the disk is full')
  isFull = false
  await file.ask()
})
