import { expect, test } from 'vitest'
import { Pace } from '../../../protocols/weights/pace.ts'

/** Seconds until a holder that sends so fast is given up; null within ten minutes: never. */
function givenUpAfter(sendsMbps: number, link: { mbps?: number }, pieceMs = 1000): number | null {
  const pace = new Pace({ rttMs: 1, ...link })
  for (let ms = pieceMs; ms < 600_000; ms += pieceMs) {
    try {
      pace.arrived((sendsMbps * 1000 * pieceMs) / 8, pieceMs)
    } catch (error) {
      expect(error).toMatchObject({ name: 'DeadlineError' })
      return ms / 1000
    }
  }
  return null
}

test('a holder that only drips is given up, on a link of any speed', () => {
  const byteEach14s = 8 / 14e6
  expect(givenUpAfter(byteEach14s, {}, 14_000)).toBeLessThan(60)
  expect(givenUpAfter(byteEach14s, { mbps: 500 }, 14_000)).toBeLessThan(60)
  expect(givenUpAfter(0.1, { mbps: 100 })).toBeLessThan(60)
})

test('slow links, shared links and slow disks pass', () => {
  expect(givenUpAfter(0.1, { mbps: 0.1 })).toBe(null)
  expect(givenUpAfter(0.1 / 8, { mbps: 0.1 })).toBe(null)
  expect(givenUpAfter(50 / 32, { mbps: 50 })).toBe(null)
  expect(givenUpAfter(80 / 32, { mbps: 10_000 })).toBe(null)
})

test('time that this side took does not count', () => {
  const pace = new Pace({ rttMs: 1, mbps: 100 })
  for (let i = 0; i < 1000; i++) pace.arrived(1, 0)
})
