import { expect, test } from 'vitest'
import { loadDeadlineMs } from '../../../../node/source/placement/load-deadline.ts'

const GB = 1e9
const link = (from: string, mbps: number) => ({ from, to: 'b', mbps, rttMs: 1, spread: 0, ageMs: 0 })
const load = { peerId: 'b', bytes: 4 * GB, allBytes: 4 * GB, holders: ['a', 'c'] }
const minutes = (ms: number) => ms / 60_000

test('a load may take several times what its links and a slow disk need', () => {
  // 4 GB at 5 Mbps take 107 minutes.
  const slow = minutes(loadDeadlineMs(load, [link('a', 5), link('c', 5)]))
  expect(slow).toBeGreaterThan(3 * 107)
  expect(slow).toBeLessThan(10 * 107)
  // The slowest holder may be the only one of what is missing; a peer that holds nothing does not count.
  const both = [link('a', 5), link('c', 500)]
  expect(loadDeadlineMs(load, both)).toBe(loadDeadlineMs(load, [link('a', 5), link('c', 5)]))
  expect(loadDeadlineMs(load, [...both, link('d', 0.5)])).toBe(loadDeadlineMs(load, both))
  expect(minutes(loadDeadlineMs({ ...load, holders: ['c'] }, [link('c', 500)]))).toBeLessThan(30)
  // A link that nobody measured is as slow as the slowest that was; where none was, as a slow one at home.
  expect(loadDeadlineMs(load, [link('c', 5)])).toBe(loadDeadlineMs(load, [link('a', 5), link('c', 5)]))
  expect(loadDeadlineMs(load, [])).toBe(loadDeadlineMs(load, [link('a', 10)]))
  // Read from an SD card.
  expect(minutes(loadDeadlineMs({ ...load, bytes: 10 * GB, allBytes: 0 }, []))).toBeGreaterThan(30)
})

test('a small load has minutes, and whoever claims to have hardly a link gets no eternity', () => {
  expect(minutes(loadDeadlineMs({ ...load, bytes: 1, allBytes: 1 }, []))).toBeGreaterThan(1)
  expect(loadDeadlineMs(load, [link('a', 1e-6)])).toBe(loadDeadlineMs(load, [link('a', 0.5)]))
  expect(loadDeadlineMs({ ...load, allBytes: 1e15 }, [])).toBeLessThan(2 ** 31)
})
