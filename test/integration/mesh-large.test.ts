import { afterEach, expect, test } from 'vitest'
import type { Mesh } from '../../node/mesh/index.ts'
import { DIRECTORY_PROTOCOL_3 } from '../../protocols/directory/constants.ts'
import { PROTOCOLS } from '../../protocols/versions.ts'
import { deadlineMs } from '../fixtures/machine.ts'
import { idle, Meshes, until } from '../node/mesh/fixtures.ts'

/** Five devices are a large mesh, in which each chooses one neighbour. */
const size = { border: 4, chosen: 1 }
const meshes = new Meshes()
afterEach(() => meshes.stop())

const knowsAll = (nodes: Mesh[]) =>
  nodes.every(node => node.peers.filter(({ state }) => state === 'connected').length === nodes.length - 1)
const farPairs = (nodes: Mesh[]) =>
  nodes.flatMap(node =>
    node.peers.filter(({ direct }) => !direct).map(({ record }) => [node, record.peerId] as const)
  )

async function largeMesh(count: number): Promise<Mesh[]> {
  const nodes: Mesh[] = []
  for (let i = 0; i < count; i++) {
    const peers = nodes.slice(0, 1).flatMap(mesh => mesh.addresses)
    nodes.push(await meshes.add(`node ${i}`, { size, peers, owner: i === 0 }))
  }
  await until(() => knowsAll(nodes) && farPairs(nodes).length > 0)
  return nodes
}

test('in a large mesh a device hears of those that it is not connected to, and connects to one that it needs; one of the version before is connected to all', {
  timeout: deadlineMs(60_000)
}, async () => {
  const nodes = await largeMesh(5)
  const owner = nodes[0]!
  await until(() => farPairs(nodes.slice(1)).some(([, id]) => id !== owner.peerId))
  const [node, farId] = farPairs(nodes.slice(1)).find(([, id]) => id !== owner.peerId)!
  const far = nodes.find(({ peerId }) => peerId === farId)!

  far.update({ memory: { budgetBytes: 1000, freeBytes: 123 } })
  const seen = () => node.peers.find(({ record }) => record.peerId === farId)!
  await until(() => seen().record.memory.freeBytes === 123)
  expect(seen().state).toBe('connected')

  const lease = await node.lease(farId)
  await until(() => seen().direct)
  lease.end()

  // A statement reaches those who are connected to nobody that has signed it.
  await owner.members.ban(farId)
  const others = nodes.filter(other => other !== far)
  await until(() => others.every(other => other.members.isBanned(farId)))
  await until(() =>
    others.every(({ peers }) => peers.every(({ record, connected }) => record.peerId !== farId || !connected))
  )
  await until(() => knowsAll(others))
  // What was measured of it before the two parted is no link of the mesh any more.
  await until(() => others.every(({ self }) => self.links[farId] === undefined))

  const old = await meshes.add('old', {
    peers: owner.addresses,
    size: { border: 100, chosen: 1 },
    protocols: { ...PROTOCOLS, directory: [DIRECTORY_PROTOCOL_3] },
    handlers: idle()
  })
  await until(() => knowsAll([...others, old]))
  expect(old.peers.filter(({ connected }) => connected).every(({ direct }) => direct)).toBe(true)
})
