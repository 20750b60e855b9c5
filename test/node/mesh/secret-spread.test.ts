import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { reachedByOthers, type SpreadDevices } from '../../../node/mesh/secret-spread.ts'
import { pass, played, stopClock } from '../simulation/clock.ts'

beforeEach(() => stopClock())
afterEach(() => void vi.useRealTimers())

function far(states: Record<string, ReturnType<SpreadDevices['get']>>): SpreadDevices {
  return {
    get devices() {
      return Object.keys(states)
    },
    get: peerId => states[peerId]
  }
}

test('devices that are there are waited for until each says that it has the secret', async () => {
  const states: Parameters<typeof far>[0] = {
    has: { state: 'connected', epoch: 3 },
    later: { state: 'connected', epoch: 2 },
    gone: { state: 'gone', epoch: 2 }
  }
  let reached: string[] | undefined
  void reachedByOthers(far(states), 3).then(found => {
    reached = found
  })
  await pass(1000)
  expect(reached).toBeUndefined()
  states.later = { state: 'connected', epoch: 4 }
  await pass(100)
  expect(reached).toEqual(['has', 'later'])
})

test('one that never says so holds nobody up for long', async () => {
  const startMs = performance.now()
  const reached = await played(
    reachedByOthers(
      far({ has: { state: 'connected', epoch: 3 }, hasNot: { state: 'connected', epoch: 2 } }),
      3
    )
  )
  expect(reached).toEqual(['has'])
  expect(performance.now() - startMs).toBeLessThan(6000)
})
