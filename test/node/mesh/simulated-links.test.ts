import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { PROBES_FACTOR } from '../../../node/mesh/probe-budget.ts'
import { SimulatedLinks } from './simulated-links.ts'

beforeEach(() => {
  vi.useFakeTimers()
})
afterEach(() => {
  vi.useRealTimers()
})

/** Three devices: a source, a stage that sends, and a stage that receives. */
const [SOURCE, FROM, TO] = ['d000', 'd001', 'd002']

/** Mbps from one stage to the next as the source has it in its directory. */
function known(links: SimulatedLinks): number | undefined {
  return links.matrixAt(SOURCE).find(({ from, to }) => from === FROM && to === TO)?.mbps
}

/** Frames of so many bytes, one after another as fast as the link takes them and no more than 20 a second. */
async function traffic(links: SimulatedLinks, bytes: number, mbps: number, forMs: number): Promise<void> {
  const everyMs = Math.max(50, (8 * bytes) / (1000 * mbps))
  for (let ms = 0; ms < forMs; ms += everyMs) {
    links.frame(FROM, TO, bytes)
    await vi.advanceTimersByTimeAsync(everyMs)
  }
}

test.each([
  ['chunks of a prompt', 1_000_000],
  ['tokens of 4096 hidden values', 16_384]
])(
  'between two other devices: a link that falls from 100 to 5 Mbps while %s flow is known to the source within 5 s',
  async (_, bytes) => {
    const links = new SimulatedLinks(3)
    links.start()
    await vi.advanceTimersByTimeAsync(10_000)
    expect(known(links)).toBe(100)
    for (const { peerId } of links.devices) links.busy.add(peerId)
    const { length } = links.probes
    await traffic(links, bytes, 100, 10_000)
    expect(known(links)).toBe(100)
    expect(links.glances).toEqual([])
    links.set(FROM, TO, 5)
    await traffic(links, bytes, 5, 5000)
    expect(known(links)).toBeCloseTo(5, 0)
    // And when it is as before, that is known as well.
    links.set(FROM, TO, 90)
    await traffic(links, bytes, 90, 8000)
    expect(known(links)).toBeGreaterThan(60)
    expect(links.probes.length).toBe(length)
    links.stop()
  }
)

test('frames of one token that say nothing cost nothing: of a link that stays as it is no look is taken', async () => {
  const links = new SimulatedLinks(3)
  links.start()
  await vi.advanceTimersByTimeAsync(10_000)
  for (const { peerId } of links.devices) links.busy.add(peerId)
  await traffic(links, 200, 100, 60_000)
  expect(links.glances).toEqual([])
  links.stop()
})

test('64 devices begin at most 6 n log2 n measurements in an hour, not n squared, and those that matter come first', async () => {
  const count = 64
  // The last eight compute; two of them are neighbours in a deployment.
  const stage = (layers: [number, number]) => [{ modelId: 'm', layers, source: 'd063' }]
  const links = new SimulatedLinks(count, i => ({
    budgetBytes: i < 56 ? 0 : 1000,
    leases: i === 56 ? stage([0, 3]) : i === 57 ? stage([3, 6]) : []
  }))
  const startedAtMs = performance.now()
  links.start()
  await vi.advanceTimersByTimeAsync(60_000)
  const ofFirst = (peerId: string) => links.probes.filter(probe => probe.startsWith(peerId))
  expect(ofFirst('d056').slice(0, 2).toSorted()).toEqual(['d056 d057', 'd056 d063'])
  const offered = links.probes.filter(probe => probe >= 'd056')
  expect(offered.length).toBe((8 * 7) / 2)
  // A link that is due stays so: they look for such only in the minutes behind the first measurements, and behind those again.
  for (const [fromMinute, minutes] of [
    [1, 2],
    [31, 3],
    [58, 2]
  ] as const) {
    links.stop()
    await vi.advanceTimersByTimeAsync(fromMinute * 60_000 - performance.now() + startedAtMs)
    links.start()
    await vi.advanceTimersByTimeAsync(minutes * 60_000)
  }
  const hourly = links.probes.length
  const repeated = hourly - new Set(links.probes).size
  expect(repeated).toBeGreaterThan(0)
  expect(hourly).toBeLessThanOrEqual(PROBES_FACTOR * count * Math.log2(count))
  expect(hourly).toBeLessThan((count * (count - 1)) / 2)
  links.stop()
})
