import { vi } from 'vitest'

/** What the nodes under test see of time: theirs stands still until a test lets it pass. */
const SEEN = ['setTimeout', 'clearTimeout', 'setInterval', 'clearInterval', 'performance', 'Date'] as const

/** Stops the clock that everything in this process reads and waits by, until `vi.useRealTimers`. */
export function stopClock(): void {
  vi.useFakeTimers({ toFake: [...SEEN] })
}

/** Lets everything happen that happens at this moment. */
export async function settle(): Promise<void> {
  for (let i = 0; i < 3; i++) await new Promise(setImmediate)
}

/** Lets so much time pass. */
export async function pass(ms: number): Promise<void> {
  await settle()
  await vi.advanceTimersByTimeAsync(ms)
  await settle()
}

/**
 * Lets time pass until `work` has ended, timer by timer, and everything of a moment before the next one.
 *
 * @param limitMs what is not over after so long never will be
 */
export async function played<T>(work: Promise<T>, limitMs = 600_000): Promise<T> {
  // A test may set the time of day.
  const endMs = performance.now() + limitMs
  let over = false
  const mark = () => {
    over = true
  }
  work.then(mark, mark)
  for (;;) {
    await settle()
    if (over) return await work
    if (performance.now() > endMs) throw new Error(`still not over after ${limitMs} simulated ms`)
    await vi.advanceTimersToNextTimerAsync()
  }
}

/** Waits so long by the stopped clock. */
export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
