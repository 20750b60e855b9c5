import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { watchLoneliness } from '../../../node/mesh/watch.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

test('who finds nobody hears why for every interface, once each, and of what fails later', async () => {
  const said: string[] = []
  let reasons = ['eth0 has no route', 'wlan0 is blocked']
  let lonely = true
  const end = watchLoneliness({
    isLonely: () => lonely,
    reasons: async () => reasons,
    say: reason => void said.push(reason)
  })
  await vi.advanceTimersByTimeAsync(3000)
  expect(said).toEqual(['eth0 has no route', 'wlan0 is blocked'])
  reasons = ['wlan0 is blocked', 'usb0 has no route']
  await vi.advanceTimersByTimeAsync(120_000)
  expect(said.slice(2)).toEqual(['usb0 has no route'])
  reasons = ['eth1 has no route']
  lonely = false
  await vi.advanceTimersByTimeAsync(120_000)
  end()
  lonely = true
  await vi.advanceTimersByTimeAsync(120_000)
  expect(said).toHaveLength(3)
})
