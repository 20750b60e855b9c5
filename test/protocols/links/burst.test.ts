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
