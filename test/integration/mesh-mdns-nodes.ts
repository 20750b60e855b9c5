// Runs inside a network namespace of its own, started by mesh-mdns.test.ts: three members and a stranger, found by mDNS, and
// a device that joins with a ticket without addresses.
import { randomBytes } from 'node:crypto'
import type { Mesh } from '../../node/mesh/index.ts'
import { joinMesh } from '../../node/mesh/join.ts'
import { decodeTicket } from '../../node/mesh/ticket.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
try {
  const stranger = await meshes.add('stranger', { mdns: true, listen: '0.0.0.0', secret: randomBytes(32) })
  const members: Mesh[] = []
  for (const name of ['a', 'b', 'c']) members.push(await meshes.add(name, { mdns: true, listen: '0.0.0.0' }))
  const startMs = performance.now()
  await until(() => members.every(({ peers }) => peers.length === 2))
  const connectedMs = performance.now() - startMs
  const names = [...members, stranger].map(({ peers }) => peers.map(({ record }) => record.name))
  const ticket = decodeTicket(await members[1]!.members.invite())
  const joined = await joinMesh(await meshes.home(null), { ...ticket, addresses: [] })
  process.stdout.write(JSON.stringify({ connectedMs, names, joined }))
} finally {
  await meshes.stop()
}
