import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { HandshakePlaces, MAX_HANDSHAKES } from '../../../node/mesh/handshake-places.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

const PROVEN = '/ip4/10.0.0.2'

function door() {
  const places = new HandshakePlaces({ isProvenHost: host => host === PROVEN })
  const dropped: object[] = []
  /** @returns the caller, or null where there was no place for it */
  const call = (host: string, { speaks = false } = {}) => {
    const caller = { host }
    if (!places.enter(caller, host, () => dropped.push(caller))) return null
    if (speaks) places.spoke(caller)
    return caller
  }
  return { places, dropped, call }
}

/** A flood from each of these hosts, so many calls of each. */
const flood = (call: (host: string) => unknown, hosts: string[], calls: number) => {
  for (let i = 0; i < calls; i++) for (const host of hosts) call(host)
}
const hostsOf = (subnet: string, count: number) =>
  Array.from({ length: count }, (_, i) => `/ip4/${subnet}.${i + 10}`)

test('who says nothing is out after two seconds, who has asked for noise stays', async () => {
  const { places, dropped, call } = door()
  const silent = call('/ip4/10.6.6.6')
  const speaking = call('/ip4/10.6.6.6', { speaks: true })!
  await vi.advanceTimersByTimeAsync(1900)
  expect(dropped).toEqual([])
  await vi.advanceTimersByTimeAsync(200)
  expect(dropped).toEqual([silent])
  await vi.advanceTimersByTimeAsync(10_000)
  expect([dropped.length, places.taken]).toEqual([1, 1])
  places.leave(speaking)
  expect(places.taken).toBe(0)
})

test('a newcomer takes the place of the oldest silent caller, also in the subnet of a stranger with nine addresses', async () => {
  const { places, dropped, call } = door()
  const callers: unknown[] = []
  flood(host => callers.push(call(host, { speaks: callers.length === 0 })), hostsOf('10.0.0', 9), 50)
  expect(places.taken).toBeLessThan(MAX_HANDSHAKES)
  expect(dropped.length).toBe(450 - places.taken)
  const before = dropped.length
  await vi.advanceTimersByTimeAsync(300)
  const newcomer = call('/ip4/10.0.0.3')
  expect(newcomer).not.toBeNull()
  const oldestSilent = callers.find(
    caller => !dropped.slice(0, before).includes(caller as object) && caller !== callers[0]
  )
  expect(dropped.slice(before)).toEqual([oldestSilent])
  // Nor does the flood push it out before it has spoken: it only displaces itself.
  flood(call, hostsOf('10.0.0', 9), 50)
  expect(dropped).not.toContain(newcomer)
})

test('callers that begin a handshake and leave it there keep no subnet out that has fewer', () => {
  const { dropped, call } = door()
  const speaking = (host: string) => call(host, { speaks: true })
  flood(speaking, hostsOf('10.6.6', 30), 10)
  const newcomers = hostsOf('10.0.0', 20).map(host => call(host))
  expect(newcomers).not.toContain(null)
  flood(speaking, hostsOf('10.6.6', 30), 10)
  expect(dropped.filter(caller => newcomers.includes(caller as { host: string }))).toEqual([])
})

test('places are shared by /64 in IPv6: a stranger with ever new addresses has one share', () => {
  const { dropped, call } = door()
  const [own, other] = [call('/ip6/fd00:1::5'), call('/ip6/fd00:2::5')]
  for (let i = 0; i < 500; i++) call(`/ip6/fd00:77::${i.toString(16)}`, { speaks: true })
  expect(dropped).not.toContain(own)
  expect(dropped).not.toContain(other)
  expect(dropped.length).toBeGreaterThan(400)
})

test('a host at which a member was met has a place while strangers have all of theirs, and displaces one of them at most', () => {
  const { places, dropped, call } = door()
  for (let i = 0; i < 1000; i++) call(`/ip4/10.6.${i % 250}.6`, { speaks: true })
  const strangers = places.taken
  expect(strangers).toBeLessThan(MAX_HANDSHAKES)
  const before = dropped.length
  const members = Array.from({ length: MAX_HANDSHAKES - strangers }, () => call(PROVEN))
  expect(members).not.toContain(null)
  expect([places.taken, dropped.length]).toEqual([MAX_HANDSHAKES, before])
  const another = call(PROVEN)
  expect([another === null, places.taken, dropped.length]).toEqual([false, MAX_HANDSHAKES, before + 1])
  for (let i = 0; i < 1000; i++) call(`/ip4/10.7.${i % 250}.6`, { speaks: true })
  expect(dropped.filter(caller => [...members, another].includes(caller as { host: string }))).toEqual([])
})
