import { expect, test } from 'vitest'
import { type Burst, measureRate } from '../../../protocols/links/burst.ts'

/** Times bursts as a link would on which the `nth` burst flows at a rate. */
function link(mbpsOf: (nth: number) => number) {
  const sizes: number[] = []
  const burst = async (bytes: number): Promise<Burst> => {
    sizes.push(bytes)
    const timed = bytes * (63 / 64)
    return { bytes: timed, ms: (8 * timed) / (mbpsOf(sizes.length) * 1000) }
  }
  return { burst, sizes }
}

test('a slow link takes two bursts, a fast one more, and the rate is theirs', async () => {
  const slow = link(() => 1)
  await expect(measureRate(1, slow.burst)).resolves.toMatchObject({ spread: 0 })
  expect(slow.sizes.length).toBe(2)
  const fast = link(() => 500)
  const { mbps, cost } = await measureRate(1, fast.burst)
  expect(mbps).toBeCloseTo(500)
  expect(cost).toBe(fast.sizes.reduce((sum, bytes) => sum + bytes, 0))
})

test('on a link whose windows open with each burst, bursts grow until they get no faster', async () => {
  // The first burst that lasts long enough is still a slow one.
  const opening = link(nth => Math.min(470, Math.max(90, 45 * nth)))
  const { mbps } = await measureRate(10, opening.burst)
  expect(mbps).toBeGreaterThan(0.95 * 470)
  expect(opening.sizes.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(48 * 2 ** 20)
})

test('bursts end once the fastest two agree and the last was no faster', async () => {
  const steady = link(() => 300)
  await measureRate(1, steady.burst)
  expect(steady.sizes.filter(size => size === steady.sizes.at(-1)).length).toBe(3)
  expect(steady.sizes.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(8 * 2 ** 20)
})

test('a link that is faster than any plan needs is timed by few bytes', async () => {
  const ethernet = link(nth => 940 - 100 * (nth % 2))
  const { mbps } = await measureRate(0.3, ethernet.burst)
  expect(mbps).toBeGreaterThan(830)
  expect(ethernet.sizes.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(4 * 2 ** 20)
  const faster = link(() => 1500)
  await expect(measureRate(0.3, faster.burst)).resolves.toMatchObject({ spread: 0 })
  expect(faster.sizes.reduce((sum, bytes) => sum + bytes, 0)).toBeLessThan(6 * 2 ** 20)
})

test('one burst that was held up does not count', async () => {
  const { mbps, spread } = await measureRate(10, link(nth => (nth === 7 ? 100 : 470)).burst)
  expect(mbps).toBeCloseTo(470)
  expect(spread).toBe(0)
})

test('a rate that is waited for is measured roughly, in a few milliseconds more than round trips', async () => {
  const msOf = ({ sizes }: ReturnType<typeof link>, mbps: number) =>
    sizes.reduce((sum, bytes) => sum + (8 * bytes) / (1000 * mbps), 0)
  for (const mbps of [1, 20, 100, 500]) {
    const rough = link(nth => mbps * (nth % 2 === 0 ? 0.9 : 1))
    const exact = link(() => mbps)
    const found = await measureRate(1, rough.burst, { roughly: true })
    expect(Math.abs(found.mbps / mbps - 1)).toBeLessThan(0.1)
    await measureRate(1, exact.burst)
    if (mbps > 1) expect(msOf(rough, mbps)).toBeLessThan(0.25 * msOf(exact, mbps))
  }
  // What takes less than a round trip has not opened the windows on the way.
  const far = link(() => 100)
  await measureRate(50, far.burst, { roughly: true })
  expect((8 * far.sizes.at(-1)!) / (1000 * 100)).toBeGreaterThan(50)
})
