import { afterEach, expect, test } from 'vitest'
import type { Mesh } from '../../node/mesh/index.ts'
import { aged, LinkTable, linkMatrix } from '../../node/mesh/link-table.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
afterEach(() => meshes.stop())

test('a link is measured on demand, and everybody knows the matrix', async () => {
  const [a, b, c] = await meshes.connected(['a', 'b', 'c'])
  await a!.measureLinks([b!.peerId, c!.peerId])
  const known = () => a!.links.filter(({ from }) => from === a!.peerId).map(({ to }) => to)
  // What a busy machine does not get done in a plan's time is measured by and by.
  await until(() => known().length === 2)
  expect(known().toSorted()).toEqual([b!.peerId, c!.peerId].toSorted())
  for (const { mbps, rttMs, spread } of a!.links) {
    expect(mbps).toBeGreaterThan(0)
    expect(rttMs).toBeGreaterThan(0)
    expect(spread).toBeGreaterThanOrEqual(0)
  }
  await until(() => b!.links.some(({ from, to }) => from === a!.peerId && to === c!.peerId))
})

test('every link is measured by itself after a while', async () => {
  const [a, b] = await meshes.connected(['a', 'b'])
  await until(() => a!.links.length === 2 && b!.links.length === 2)
  expect(a!.links.map(({ from }) => from).toSorted()).toEqual([a!.peerId, b!.peerId].toSorted())
})

test('two nodes that measure each other at the same time both get there', async () => {
  const [a, b] = await meshes.connected(['a', 'b'])
  const measured = async (from: Mesh, to: Mesh) => {
    while (from.self.links[to.peerId] === undefined) await from.measureLinks([to.peerId])
  }
  await Promise.all([measured(a!, b!), measured(b!, a!)])
  expect(Object.keys(a!.self.links)).toEqual([b!.peerId])
  expect(Object.keys(b!.self.links)).toEqual([a!.peerId])
})

test('real transfers correct an estimate, and the younger end of a pair is believed', () => {
  let nowMs = 0
  const table = new LinkTable(() => nowMs)
  table.transferred('b', 1e6, 80)
  expect(table.row).toEqual({})
  table.measured('b', { outMbps: 50, inMbps: 50, rttMs: 1, spread: 0 })
  nowMs = 1000
  table.transferred('b', 1e6, 80)
  expect(table.row.b).toMatchObject({ outMbps: 50, inMbps: 60, ageMs: 1000, inAgeMs: 0 })
  expect(table.ageMs('b')).toBe(1000)
  // The other direction is no younger for it: what the peer measured since then is believed.
  const peerRow = { a: { outMbps: 7, inMbps: 8, rttMs: 1, spread: 0, ageMs: 400 } }
  const rows = new Map([
    ['a', aged(table.row, 100)],
    ['b', peerRow]
  ])
  expect(linkMatrix(rows).map(({ from, mbps, ageMs }) => ({ from, mbps, ageMs }))).toEqual([
    { from: 'a', mbps: 8, ageMs: 400 },
    { from: 'b', mbps: 60, ageMs: 100 }
  ])

  const link = { rttMs: 1, spread: 0 }
  const matrix = linkMatrix(
    new Map([
      [
        'a',
        {
          b: { ...link, outMbps: 10, inMbps: 20, ageMs: 500 },
          gone: { ...link, outMbps: 1, inMbps: 1, ageMs: 0 }
        }
      ],
      ['b', { a: { ...link, outMbps: 30, inMbps: 40, ageMs: 100 } }]
    ])
  )
  expect(matrix.map(({ from, to, mbps }) => ({ from, to, mbps }))).toEqual([
    { from: 'a', to: 'b', mbps: 40 },
    { from: 'b', to: 'a', mbps: 30 }
  ])
})

test('no transfer, however odd, takes an estimate or its spread far away', () => {
  const table = new LinkTable()
  table.measured('b', { outMbps: 50, inMbps: 50, rttMs: 1, spread: 0 })
  table.transferred('b', 32e6, 1e-6)
  expect(table.row.b).toMatchObject({ inMbps: 60, spread: 0.2 })
  for (let i = 0; i < 100; i++) table.transferred('b', 1, 1e9)
  expect(table.row.b!.spread).toBeLessThanOrEqual(1)
  expect(table.row.b!.inMbps).toBeGreaterThan(0)
})

test('what cannot be an estimate stays out of the record, which peers would refuse', () => {
  const table = new LinkTable()
  table.measured('b', { outMbps: 0, inMbps: 50, rttMs: 1, spread: 0 })
  table.measured('c', { outMbps: 50, inMbps: Number.NaN, rttMs: 1, spread: 0 })
  table.measured('d', { outMbps: 50, inMbps: 50, rttMs: 1, spread: Number.POSITIVE_INFINITY })
  expect(table.row).toEqual({})
})
