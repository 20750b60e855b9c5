import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { stopSignals } from '../../../node/cli/interrupt.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

let exits: unknown[]
beforeEach(() => {
  exits = []
  vi.useFakeTimers()
  vi.spyOn(process, 'exit').mockImplementation(code => void exits.push(code) as never)
})
afterEach(() => {
  vi.useRealTimers()
  vi.restoreAllMocks()
  for (const signal of SIGNALS) process.removeAllListeners(signal)
})

test('the first signal asks to end, the second to end at once, the third ends the process', async () => {
  const { first, again } = stopSignals()
  process.emit('SIGTERM', 'SIGTERM')
  await first
  // One Ctrl-C comes from the terminal and from the launcher.
  process.emit('SIGINT', 'SIGINT')
  expect(again.aborted).toBe(false)
  vi.advanceTimersByTime(600)
  process.emit('SIGTERM', 'SIGTERM')
  expect(again.aborted).toBe(true)
  expect(exits).toEqual([])
  vi.advanceTimersByTime(600)
  process.emit('SIGHUP', 'SIGHUP')
  expect(exits).toEqual([130])
})

test('what was told to end at once and does not is ended', () => {
  const { again } = stopSignals()
  process.emit('SIGTERM', 'SIGTERM')
  vi.advanceTimersByTime(600)
  process.emit('SIGTERM', 'SIGTERM')
  expect(again.aborted).toBe(true)
  vi.advanceTimersByTime(3_000)
  expect(exits).toEqual([130])
})
