// The node that is fuzzed, a process of its own: it says where it is, and on request how much memory it has.
import { createNode } from '../../node/index.ts'

const [home, memoryBytes] = process.argv.slice(2)
const node = await createNode({
  home: home!,
  name: 'target',
  memoryBytes: Number(memoryBytes),
  mdns: false,
  port: 0,
  threads: 1
})
process.send!({ addresses: node.addresses, peerId: node.peerId })
process.on('message', () => {
  global.gc!()
  const { sessions, leases } = node.mesh()
  process.send!({ rssBytes: process.memoryUsage().rss, leases: leases.length, sessions })
})
process.on('disconnect', () => void node.stop())
