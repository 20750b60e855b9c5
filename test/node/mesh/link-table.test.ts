import { expect, test } from 'vitest'
import type { LinkEstimate } from '../../../node/api.ts'
import { aged, linkMatrix } from '../../../node/mesh/link-matrix.ts'
import { LinkTable } from '../../../node/mesh/link-table.ts'

const MINUTE_MS = 60_000

/** A table whose clock is the test's. */
function table() {
  const clock = { ms: 0 }
  const changed: string[] = []
  const details: string[] = []
  const doubted: string[] = []
  const links = new LinkTable({
    now: () => clock.ms,
    onChange: (peerId, when) => (when === 'soon' ? changed : details).push(peerId),
    onDoubt: peerId => doubted.push(peerId)
  })
  return { links, clock, changed, details, doubted }
}

const probed = { outMbps: 50, inMbps: 50, rttMs: 1, spread: 0 }

test('what comes anyway takes the place of what was probed, with its own age, and is told', () => {
  const { links, clock, changed } = table()
  links.measured('b', probed)
  clock.ms = MINUTE_MS
  for (let i = 0; i < 3; i++) links.transferred('b', { bytes: 1e6, ms: 80 })
  expect(links.row.b).toEqual({ ...probed, inMbps: 100, ageMs: MINUTE_MS, inAgeMs: 0, observed: true })
  expect(links.ageMs('b')).toBe(MINUTE_MS)
  expect(changed).toEqual(['b'])
  expect(links.statesOf('a')).toEqual([
    { from: 'a', to: 'b', mbps: 50, rttMs: 1, spread: 0, ageMs: MINUTE_MS },
    { from: 'b', to: 'a', mbps: 100, rttMs: 1, spread: 0, ageMs: 0, observed: true }
  ])
})

test('what a starved device measured takes the place of nothing that was measured well, and gives way to it', () => {
  const { links, clock } = table()
  const starved = { outMbps: 12, inMbps: 29, rttMs: 9, spread: 0.3, isStarved: true }
  links.measured('b', starved)
  expect(links.row.b).toMatchObject({ outMbps: 12, inMbps: 29, rttMs: 9, starved: true })
  links.measured('b', probed)
  expect(links.row.b).toEqual({ ...probed, ageMs: 0 })
  clock.ms = 40 * MINUTE_MS
  links.measured('b', starved)
  links.probedIn('b', { mbps: 3, spread: 0, isStarved: true })
  const glance = { mbps: 3, spread: 0, isLeast: false, isStarved: true }
  expect(links.glanced('b', glance, 1)).toBe('starved')
  for (let i = 0; i < 9; i++) links.transferred('b', { bytes: 1e6, ms: 8000, isStarved: true })
  expect(links.row.b).toEqual({ ...probed, ageMs: 40 * MINUTE_MS })
  // It was tried, at least.
  expect(links.ageMs('b')).toBe(0)
})

test('a peer is believed of what it receives, and not of what it sends', () => {
  const { links, clock } = table()
  links.measured('b', probed)
  clock.ms = 1000
  const lie = { outMbps: 9000, inMbps: 7, rttMs: 0, spread: 0, ageMs: 400 }
  links.heard('b', lie)
  expect(links.row.b).toEqual({ ...probed, outMbps: 7, ageMs: 400, inAgeMs: 1000 })
  links.heard('b', { ...lie, inMbps: 70, ageMs: 800 })
  expect(links.row.b!.outMbps).toBe(7)
  links.heard('b', { ...lie, inMbps: 70, ageMs: 0, starved: true })
  expect(links.row.b!.outMbps).toBe(7)
  const rows = new Map([
    ['a', links.row],
    ['b', { a: { ...lie, ageMs: 0 } }]
  ])
  const matrix = () => linkMatrix(rows, links.statesOf('a')).map(({ from, mbps }) => [from, mbps])
  const known = [
    ['a', 7],
    ['b', 50]
  ]
  expect(matrix()).toEqual(known)
  // A link that nothing uses is measured again after eight hours at the latest.
  clock.ms = 8 * 60 * MINUTE_MS
  expect(matrix()).toEqual(known)
})

test('a peer that had measured tells the other end what that cannot see, so that its own row has both directions', () => {
  const { links } = table()
  links.probedIn('b', { mbps: 30, spread: 0, isStarved: false })
  expect(links.row).toEqual({})
  links.heard('b', { outMbps: 31, inMbps: 20, rttMs: 3, spread: 0, ageMs: 10 })
  expect(links.row.b).toMatchObject({ inMbps: 30, outMbps: 20, rttMs: 3 })
})

test('a look that is too fast to be timed says the least, one beside weights gets the rest of the link', () => {
  const { links, clock } = table()
  links.measured('b', { ...probed, inMbps: 900 })
  expect(links.glanced('b', { mbps: 100, spread: 0, isLeast: true, isStarved: false }, 1)).toBe('before')
  expect(links.row.b!.inMbps).toBe(900)
  expect(links.glanced('b', { mbps: 5, spread: 0, isLeast: false, isStarved: false }, 1)).toBe('news')
  expect(links.row.b!.inMbps).toBe(5)
  links.measured('b', { ...probed, inMbps: 80 })
  for (let i = 0; i < 200; i++) {
    clock.ms += 10
    links.weightsCame('b', 50_000, () => false)
  }
  expect(links.glanced('b', { mbps: 42, spread: 0, isLeast: false, isStarved: false }, 1)).toBe('before')
})

test('weights that come slowly for long are a reason to look at the link, and no figure of it', () => {
  const { links, clock, doubted } = table()
  links.measured('b', probed)
  for (let i = 0; i < 300; i++) {
    clock.ms += 10
    links.weightsCame('b', 10_000, () => false)
  }
  expect(links.row.b!.inMbps).toBe(50)
  expect(doubted).toContain('b')
})

test('heartbeats shorten a round trip at once and lengthen one that has become much longer; others hear of it by and by', () => {
  const { links, changed, details } = table()
  links.measured('b', { ...probed, rttMs: 10 })
  links.answered('b', 13)
  expect(links.row.b!.rttMs).toBe(10)
  links.answered('b', 40)
  expect(links.row.b!.rttMs).toBe(40)
  links.answered('b', 9)
  expect(links.row.b!.rttMs).toBe(9)
  expect([changed, details]).toEqual([[], ['b', 'b']])
})

test('a row has three digits of each figure', () => {
  const { links } = table()
  links.measured('b', { outMbps: 94.123456, inMbps: 1234.5678, rttMs: 0.123456, spread: 0.0123456 })
  expect(links.row.b).toEqual({ outMbps: 94.1, inMbps: 1230, rttMs: 0.123, spread: 0.0123, ageMs: 0 })
})

test('frames that take longer than before are a reason to look, once the link is known', () => {
  const { links, clock, doubted } = table()
  const frames = (delayMs: number) => {
    for (let i = 0; i < 100; i++) {
      clock.ms += 40
      links.frameCame('b', { bytes: 16_384, delayMs })
    }
  }
  frames(5)
  frames(50)
  expect(doubted).toEqual([])
  links.measured('b', probed)
  frames(5)
  expect(doubted).toEqual([])
  frames(50)
  expect(doubted).toContain('b')
})

test('what cannot be an estimate stays out of the record, which peers would refuse', () => {
  const { links } = table()
  links.measured('b', { outMbps: 0, inMbps: 50, rttMs: 1, spread: 0 })
  links.measured('c', { outMbps: 50, inMbps: Number.NaN, rttMs: 1, spread: 0 })
  links.measured('d', { outMbps: 50, inMbps: 50, rttMs: 1, spread: Number.POSITIVE_INFINITY })
  links.probedIn('e', { mbps: Number.NaN, spread: 0, isStarved: false })
  expect(links.row).toEqual({})
})

test('between others the younger end of a pair is believed, and one that was not starved before it', () => {
  const link = { rttMs: 1, spread: 0 }
  const rows = new Map<string, Record<string, LinkEstimate>>([
    ['a', { b: { ...link, outMbps: 10, inMbps: 20, ageMs: 500 }, gone: { ...probed, ageMs: 0 } }],
    ['b', { a: { ...link, outMbps: 30, inMbps: 40, ageMs: 100 } }]
  ])
  const rates = (found: ReturnType<typeof linkMatrix>) => found.map(({ from, to, mbps }) => [from, to, mbps])
  expect(rates(linkMatrix(rows))).toEqual([
    ['a', 'b', 40],
    ['b', 'a', 30]
  ])
  const starved = { a: { ...link, outMbps: 30, inMbps: 40, ageMs: 100, starved: true } }
  expect(rates(linkMatrix(new Map(rows).set('b', starved)))).toEqual([
    ['a', 'b', 10],
    ['b', 'a', 20]
  ])
  expect(aged(starved, 50).a).toMatchObject({ ageMs: 150, starved: true })
})
