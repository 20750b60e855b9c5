// Runs inside a network namespace of its own, started by mesh-mdns.test.ts: three members and a stranger, found by mDNS, a
// device that joins with a ticket without addresses, one that pairs with the only mesh that accepts, and a member whose home is a copy of another one's.
import { randomBytes } from 'node:crypto'
import { copyFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Mesh } from '../../node/mesh/index.ts'
import { joinMesh } from '../../node/mesh/join.ts'
import { findNearby } from '../../node/mesh/nearby.ts'
import { pairForTicket } from '../../node/mesh/pair.ts'
import { decodeTicket } from '../../node/mesh/ticket.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
try {
  const stranger = await meshes.add('stranger', { mdns: true, listen: '0.0.0.0', secret: randomBytes(32) })
  const members: Mesh[] = []
  const [home, copy] = [await meshes.home(), await meshes.home()]
  for (const name of ['a', 'b', 'c']) {
    members.push(await meshes.add(name, { mdns: true, listen: '0.0.0.0', ...(name === 'a' && { home }) }))
  }
  const startMs = performance.now()
  await until(() => members.every(({ peers }) => peers.length === 2))
  const connectedMs = performance.now() - startMs
  const names = [...members, stranger].map(({ peers }) => peers.map(({ record }) => record.name))
  const ticket = decodeTicket(await members[1]!.members.invite())
  const joined = await joinMesh(await meshes.home(null), { ...ticket, addresses: [] })
  const nearbyBefore = await findNearby({ timeoutMs: 1000 })
  const pairing = await members[2]!.pairing.open()
  const nearby = await findNearby()
  const pairedHome = await meshes.home(null)
  const given = pairing.open && (await pairForTicket(pairedHome, nearby[0]!, pairing.code))
  const paired = [nearbyBefore.length, nearby.length, given && (await joinMesh(pairedHome, given))]
  for (const file of ['identity.key', 'mesh.json']) await copyFile(join(home, file), join(copy, file))
  const a = members[0]!
  const copied = await meshes.add('attic', { mdns: true, listen: '0.0.0.0', home: copy })
  await until(() => [a, copied].every(mesh => mesh.state().copies.some(({ name }) => name !== undefined)))
  const copies = [a, copied].map(mesh => mesh.state().copies.map(({ name }) => name))
  process.stdout.write(JSON.stringify({ connectedMs, names, joined, paired, copies }))
} finally {
  await meshes.stop()
}
