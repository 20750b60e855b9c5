import { once } from 'node:events'
import { type AddressInfo, createServer, type Server } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { takenPorts } from '../../../node/cli/taken-ports.ts'
import { startHttpServer } from '../../../node/http/index.ts'
import { fakeNode } from '../http/fake-node.ts'

const at = (port: number) => ({ url: `http://127.0.0.1:${port}`, addresses: [`/ip4/127.0.0.1/tcp/${port}`] })
const wanted = (api: number, port = 0) => ({ api: { host: '127.0.0.1', port: api }, port })

let other: Server
beforeEach(async () => {
  other = createServer(socket => socket.destroy()).listen(0, '127.0.0.1')
  await once(other, 'listening')
})
afterEach(() => void other.close())

test('ports that are as they were to be, or any, are not said', async () => {
  expect(await takenPorts({ wanted: wanted(7447, 7447), ...at(7447) })).toEqual([])
  expect(await takenPorts({ wanted: wanted(0, 0), ...at(7447) })).toEqual([])
})

test('an API that is elsewhere says who has its port: a node by its name, one with a key, another program', async () => {
  await using node = await startHttpServer({ node: fakeNode(), host: '127.0.0.1', port: 0 })
  await using closed = await startHttpServer({ node: fakeNode(), host: '127.0.0.1', port: 0, apiKey: 'k' })
  const ports = [node.url, closed.url].map(url => Number(new URL(url).port))
  const holders = [`the node ${fakeNode().mesh().self.name}`, 'another node, or', 'another program']
  for (const [i, port] of [...ports, (other.address() as AddressInfo).port].entries()) {
    const [said, ...more] = await takenPorts({ wanted: wanted(port), ...at(1) })
    expect(more).toEqual([])
    expect(said).toContain(`port ${port} is taken by ${holders[i]}`)
    expect(said).toContain('the API is at http://127.0.0.1:1; --api HOST:PORT chooses another one')
  }
})

test('the port for peers that is elsewhere is said with where they are let in', async () => {
  const addresses = ['/ip4/10.0.0.1/tcp/7449/p2p/x', '/ip6/fd00::1/tcp/7449/p2p/x']
  expect(await takenPorts({ wanted: wanted(0, 7446), url: 'http://127.0.0.1:1', addresses })).toEqual([
    'port 7446 is taken: other devices are let in at 10.0.0.1:7449, [fd00::1]:7449; --port chooses another one'
  ])
})
