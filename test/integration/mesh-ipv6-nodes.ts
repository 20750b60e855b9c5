// Runs inside a network namespace of its own, started by mesh-ipv6.test.ts: two members, of which one is told the IPv6
// address of the other.
import { splitAddress } from '../../node/mesh/contacts.ts'
import { Meshes, until } from '../node/mesh/fixtures.ts'

const meshes = new Meshes()
try {
  const a = await meshes.add('a', { listen: '0.0.0.0' })
  const told = a.addresses.filter(address => address.startsWith('/ip6/'))
  const b = await meshes.add('b', { listen: '0.0.0.0', peers: told })
  await until(() => a.peers.length === 1 && b.peers.length === 1)
  const reachedAt = b.peers[0]!.addresses
  process.stdout.write(JSON.stringify({ told: told.map(text => splitAddress(text).address), reachedAt }))
} finally {
  await meshes.stop()
}
