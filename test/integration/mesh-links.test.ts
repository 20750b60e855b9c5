import { afterEach, expect, test } from 'vitest'
import type { Mesh } from '../../node/mesh/index.ts'
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
