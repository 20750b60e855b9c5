import { expect, test } from 'vitest'
import type { LinkState } from '../../../../node/api.ts'
import { supposedLinks } from '../../../../node/source/placement/supposed-links.ts'

const link = (from: string, to: string, mbps: number, rttMs = 1): LinkState => ({
  from,
  to,
  mbps,
  rttMs,
  spread: 0,
  ageMs: 0
})
const both = (a: string, b: string, mbps: number, rttMs?: number) => [
  link(a, b, mbps, rttMs),
  link(b, a, mbps, rttMs)
]

test('a pair that nobody has measured is as fast as the slower of its ends has shown itself', () => {
  // Source and a are wired, b and c on Wi-Fi.
  const links = [
    ...both('source', 'a', 940),
    ...both('source', 'b', 90, 4),
    ...both('source', 'c', 80, 3),
    ...both('a', 'b', 100, 5),
    ...both('a', 'd', 930)
  ]
  const found = supposedLinks(['source', 'a', 'b', 'c', 'd'], links, 'source')
  // Of c and d one link each is known: it may be the other end that was slow.
  expect(found).toEqual([])
  const more = [...links, ...both('d', 'c', 70, 3)]
  const pairs = supposedLinks(['source', 'a', 'b', 'c', 'd'], more, 'source')
  const rates = Object.fromEntries(pairs.map(({ from, to, mbps, rttMs }) => [`${from}${to}`, [mbps, rttMs]]))
  expect(rates).toEqual({ ac: [80, 3], ca: [80, 3], bc: [80, 4], cb: [80, 4], bd: [100, 4], db: [100, 4] })
})
