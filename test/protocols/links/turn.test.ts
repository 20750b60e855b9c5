import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { MeasuringTurn } from '../../../protocols/links/turn.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

const LIMITS = { stallMs: 300, mostMs: 2000 }
const idle = () => false

/** A measurement that ends when it is told to, and shows a sign of the peer. */
function measuring(turn: MeasuringTurn, peerId: string, limits?: typeof LIMITS) {
  let [end, progressed] = [() => {}, () => {}]
  const done = turn.take(
    peerId,
    async onProgress => {
      progressed = onProgress
      await new Promise<void>(resolve => {
        end = resolve
      })
    },
    limits
  )
  const ended = async () => {
    end()
    await done
  }
  return { end: ended, progressed: () => progressed() }
}

test('a small measurement whose peer says nothing lets go of the turn, and of the link when it ends', async () => {
  const turn = new MeasuringTurn(idle)
  const one = measuring(turn, 'a', LIMITS)
  await vi.advanceTimersByTimeAsync(299)
  expect(turn.measuring).toBe(true)
  await vi.advanceTimersByTimeAsync(1)
  expect([turn.measuring, turn.letGo, turn.isWith('a')]).toEqual([false, undefined, true])
  const other = measuring(turn, 'b')
  // Of a turn that is another's by now nothing is let go.
  one.progressed()
  await one.end()
  await vi.advanceTimersByTimeAsync(60_000)
  expect([turn.measuring, turn.letGo, turn.isWith('a')]).toEqual([true, undefined, false])
  await other.end()
  expect([turn.measuring, turn.isWith('b')]).toEqual([false, false])
})

test('one whose peer goes on keeps it for a while, and who waits hears when it lets go', async () => {
  const turn = new MeasuringTurn(idle)
  const { progressed, end } = measuring(turn, 'a', LIMITS)
  const heard = vi.fn()
  void turn.letGo!.then(heard)
  for (let ms = 0; ms < 1900; ms += 100) {
    progressed()
    await vi.advanceTimersByTimeAsync(100)
  }
  expect([turn.measuring, heard.mock.calls.length]).toEqual([true, 0])
  progressed()
  await vi.advanceTimersByTimeAsync(100)
  expect([turn.measuring, heard.mock.calls.length]).toEqual([false, 1])
  await end()
  const next = measuring(turn, 'a', LIMITS)
  void turn.letGo!.then(heard)
  await next.end()
  expect([turn.measuring, heard.mock.calls.length]).toEqual([false, 2])
})
