import { expect, test } from 'vitest'
import { nearestFirst } from '../../../../node/source/placement/nearest.ts'

const link = (from: string, to: string, mbps: number) => ({ from, to, mbps, rttMs: 1, spread: 0, ageMs: 0 })

test('holders with the fastest links to a peer come first, whoever asks', () => {
  const links = [link('a', 'b', 10), link('c', 'b', 500), link('d', 'a', 1000)]
  expect(nearestFirst(['d', 'a', 'b', 'c', 'e'], 'b', links)).toEqual(['c', 'a', 'd', 'e'])
})
