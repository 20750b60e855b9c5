import { expect, test } from 'vitest'
import { MIN_WEIGHT_CREDIT_BYTES } from '../../../protocols/weights/constants.ts'
import { Credit } from '../../../protocols/weights/credit.ts'

const PIECE = 8 * 1024

interface Copied {
  mbps: number
  rttMs: number
  known?: boolean
  isQuiet?: () => boolean
  /** How much later than a round trip the sender learns of the `nth` grant. */
  lateMs?: (nth: number) => number
}

/** A copy over a link that sends one piece after the other, played with a clock; what stood before the link at most. */
function copy({ mbps, rttMs, known = true, isQuiet = () => false, lateMs = () => 0 }: Copied) {
  const bytes = mbps * 250_000
  const bytesPerMs = (mbps * 1000) / 8
  let nowMs = 0
  const credit = new Credit({ rttMs, ...(known && { mbps }), isQuiet }, () => nowMs)
  let given = 0
  /** When the sender learns of a grant. */
  const grants = [{ atMs: rttMs / 2, bytes: credit.initial }]
  let [linkFreeMs, sent, received, open, longestMs] = [0, 0, 0, 0, 0]
  const arriving: { atMs: number; bytes: number }[] = []
  while (received < bytes) {
    while (grants.length > 0) {
      const grant = grants.shift()!
      for (let left = grant.bytes; left > 0; left -= PIECE) {
        const piece = Math.min(PIECE, left)
        if (received > bytes / 2) longestMs = Math.max(longestMs, linkFreeMs - grant.atMs)
        linkFreeMs = Math.max(linkFreeMs, grant.atMs) + piece / bytesPerMs
        arriving.push({ atMs: linkFreeMs + rttMs / 2, bytes: piece })
        sent += piece
      }
    }
    const next = arriving.shift()
    if (next === undefined) throw new Error('the copy stands still')
    nowMs = next.atMs
    received += next.bytes
    open = Math.max(open, sent - received)
    const grant = credit.consumed(next.bytes, bytes - received)
    if (grant > 0) grants.push({ atMs: nowMs + rttMs / 2 + lateMs(given++), bytes: grant })
  }
  return { share: bytes / bytesPerMs / nowMs, longestMs, open, sent, bytes }
}

test.each([
  { mbps: 10, rttMs: 1, least: 0.9 },
  { mbps: 100, rttMs: 0.5, least: 0.9 },
  { mbps: 500, rttMs: 0.5, least: 0.9 },
  { mbps: 500, rttMs: 20, least: 0.8 },
  { mbps: 500, rttMs: 20, known: false, least: 0.8 }
])('$mbps Mbps at $rttMs ms are filled, and a token waits a few ms', ({ least, ...link }) => {
  const { share, longestMs, sent, bytes } = copy(link)
  expect(share).toBeGreaterThan(least)
  expect(longestMs).toBeLessThan(12)
  expect(sent).toBe(bytes)
})

test('on a slow link hardly more than the least is under way', () => {
  const { open, share } = copy({ mbps: 1, rttMs: 1 })
  expect(open).toBeLessThanOrEqual(2 * MIN_WEIGHT_CREDIT_BYTES)
  expect(share).toBeGreaterThan(0.9)
})

test('where an end is late now and then the link is filled while no token passes', () => {
  const link = { mbps: 100, rttMs: 4, lateMs: (nth: number) => (nth % 8 === 0 ? 12 : 0) }
  const strict = copy(link)
  const quiet = copy({ ...link, isQuiet: () => true })
  expect(strict.share).toBeLessThan(0.85)
  expect(quiet.share).toBeGreaterThan(0.95)
  expect(quiet.longestMs).toBeLessThan(20)
})
