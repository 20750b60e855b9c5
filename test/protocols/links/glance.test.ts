import { expect, test } from 'vitest'
import { type GlanceBurst, glanceOf } from '../../../protocols/links/glance.ts'

/** Bursts of 16 KiB that took so long behind their first quarter; `waitedMs` with it where nothing else is said. */
const bursts = (...took: (number | [ms: number, waitedMs: number])[]): GlanceBurst[] =>
  took.map(entry => {
    const [ms, waitedMs] = Array.isArray(entry) ? entry : [entry, (4 * entry) / 3]
    return { bytes: 12_288, ms, waitedMs }
  })

test('the fastest two that agree are the link', () => {
  expect(glanceOf(bursts(19.7, 19.9, 60))).toMatchObject({ isLeast: false })
  expect(glanceOf(bursts(19.7, 19.9, 60)).mbps).toBeCloseTo(5, 0)
  expect(glanceOf(bursts(60, 3, 19.7, 19.9)).mbps).toBeCloseTo(5, 0)
})

test('bursts that are too fast to be timed say the least that the link is', () => {
  expect(glanceOf(bursts(0, 0.2, 0.1))).toMatchObject({ isLeast: true })
  expect(glanceOf(bursts(0, 0.2, 0.1)).mbps).toBeCloseTo(98, 0)
  // All of it was read at once, so that nothing is left behind the first piece.
  const whole = { bytes: 0, ms: 0, waitedMs: 1 }
  expect(glanceOf([whole, whole])).toEqual(glanceOf(bursts(0, 0.2)))
})

test('bursts whose pieces were read together, late, are none', () => {
  expect(glanceOf(bursts([0, 26], [0.1, 27], 19.7, 19.9)).mbps).toBeCloseTo(5, 0)
  expect(() => glanceOf(bursts([0, 26], [0, 26]))).toThrow('too busy')
  expect(() => glanceOf(bursts([0, 26], [0, 12], [0, 18], [0, 60]))).toThrow('too busy')
  // Nor is one that was not waited for, because the round trips before had been late.
  expect(() => glanceOf(bursts([0, 0], [0, 26], [0, 60]))).toThrow('too busy')
})

test('bursts that arrive at once, as late each time, are a slow link that hands on as much together', () => {
  const { mbps, isLeast } = glanceOf(bursts([0, 27], [0, 26], [0, 60], [0, 26.5]))
  expect(mbps).toBeCloseTo(5, 0)
  expect(isLeast).toBe(false)
})

test('what little comes behind most of a burst says neither that the link is slow nor how fast it is at least', () => {
  const rest = { bytes: 300, ms: 1.04 }
  // By itself it would be 2.3 Mbps.
  expect(glanceOf([{ ...rest, waitedMs: 2 }, ...bursts(0.2, 0.1)])).toMatchObject({
    isLeast: true,
    spread: 0
  })
  const slow = glanceOf([{ ...rest, waitedMs: 27 }, ...bursts(19.7, 19.9)])
  expect(slow.mbps).toBeCloseTo(5, 0)
  expect(slow.isLeast).toBe(false)
})

test('where no two agree the second fastest counts, and is marked', () => {
  const { mbps, spread } = glanceOf(bursts(2, 20, 50))
  expect(mbps).toBeCloseTo(4.9, 0)
  expect(spread).toBe(1)
})
