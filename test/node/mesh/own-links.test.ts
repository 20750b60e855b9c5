import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { OwnLinks } from '../../../node/mesh/own-links.ts'
import type { StageFrame } from '../../../protocols/stage/index.ts'

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

/** Links of node `a`, whose news are counted, with a peer `b` that is measured at 50 Mbps. */
function linksOf() {
  const told: string[] = []
  const asked: string[] = []
  const links = new OwnLinks(() => void told.push(JSON.stringify(links.row.b)))
  links.measureBy({
    peerId: 'a',
    connected: () => ['b'],
    service: {
      measure: async peerId => {
        asked.push(peerId)
        return { outMbps: 50, inMbps: 50, rttMs: 1, spread: 0, cost: 1, isStarved: false }
      },
      glance: async peerId => {
        asked.push(`glance at ${peerId}`)
        return await new Promise(() => {})
      }
    }
  })
  return { links, told, asked }
}

const faster = (links: OwnLinks, mbps: number) => {
  for (let i = 0; i < 4; i++) links.transferred('b', { bytes: 1e6, ms: 8000 / mbps })
}

test('what was measured is told at once, what flows at most once a second, and nothing once it is stopped', async () => {
  const { links, told, asked } = linksOf()
  await links.measureMissing(['b'])
  expect([asked, told.length]).toEqual([['b'], 1])
  faster(links, 100)
  await vi.advanceTimersByTimeAsync(0)
  const soon = told.length
  for (const mbps of [200, 400, 800]) faster(links, mbps)
  expect(told.length).toBeLessThanOrEqual(soon + 1)
  await vi.advanceTimersByTimeAsync(1000)
  const later = told.length
  expect(later).toBeGreaterThan(soon)
  links.stop()
  faster(links, 10)
  await vi.advanceTimersByTimeAsync(60_000)
  expect(told.length).toBe(later)
})

test('what was told with other news is not told again', async () => {
  const { links, told } = linksOf()
  await links.measureMissing(['b'])
  faster(links, 100)
  faster(links, 400)
  links.told()
  const before = told.length
  await vi.advanceTimersByTimeAsync(60_000)
  expect(told.length).toBe(before)
  links.stop()
})

test('a link whose frames take longer than they did is looked at', async () => {
  const { links, asked } = linksOf()
  links.start()
  await links.measureMissing(['b'])
  const frame = (lateMs: number) => {
    const sentAtMs = performance.timeOrigin + performance.now() - lateMs
    links.frameCame('b', {
      type: 'token',
      rows: [],
      drawn: [],
      timings: [{ sentAtMs }]
    } as unknown as StageFrame)
  }
  for (const lateMs of [5, 200]) {
    for (let i = 0; i < 100; i++) {
      frame(lateMs)
      await vi.advanceTimersByTimeAsync(100)
    }
  }
  expect(asked).toContain('glance at b')
  links.stop()
})

test('links are measured by nobody before the mesh is started', async () => {
  const links = new OwnLinks(() => {})
  await expect(links.measureMissing(['b'])).rejects.toThrow('the mesh is not started')
})
