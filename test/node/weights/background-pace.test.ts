import { expect, test } from 'vitest'
import { BackgroundPace } from '../../../node/weights/background-pace.ts'

/** A pace by a clock of the test, and when each piece was let through. */
function paced(mbps: number) {
  let nowMs = 1000
  let carrying = (_: number) => false
  const waits: number[] = []
  const pace = new BackgroundPace({
    mbps: () => mbps,
    isCarrying: () => carrying(nowMs),
    now: () => nowMs,
    wait: async ms => {
      waits.push(ms)
      nowMs += ms
    }
  })
  const take = async (pieces: number, bytes: number) => {
    for (let i = 0; i < pieces; i++) await pace.take(bytes)
    return nowMs - 1000
  }
  return {
    take,
    waits,
    carry: (is: (nowMs: number) => boolean) => void (carrying = is),
    skip: (ms: number) => void (nowMs += ms)
  }
}

test('no more comes than the rate allows', async () => {
  const { take } = paced(8)
  // 1 MB at 8 Mbps, less what may come at once.
  expect(await take(100, 10_000)).toBe(1000)
})

test('nothing comes while an answer passes through, and what was not taken is not made up for', async () => {
  const { take, carry } = paced(8)
  carry(nowMs => nowMs < 11_000)
  const beganMs = await take(1, 10_000)
  expect(beganMs).toBeGreaterThanOrEqual(10_000)
  const endMs = await take(100, 10_000)
  // At most a quarter of a second's worth is ahead of the rate.
  expect(endMs - beganMs).toBeGreaterThanOrEqual(750)
  expect(endMs - beganMs).toBeLessThanOrEqual(1000)
})

test('a holder that is slower than the rate is not waited for', async () => {
  const { take, skip, waits } = paced(8)
  for (let i = 0; i < 20; i++) {
    skip(100)
    await take(1, 10_000)
  }
  expect(waits).toEqual([])
})
