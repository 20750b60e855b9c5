import { createSocket } from 'node:dgram'
import { networkInterfaces } from 'node:os'

const MDNS_GROUP = '224.0.0.251'
const MDNS_PORT = 5353
const SEND_TIMEOUT_MS = 1000

/**
 * Whether this host can send multicast at all: mDNS swallows the error when it cannot, and nobody is ever found.
 *
 * @returns what to do, or null when sending works
 */
export async function multicastProblem(): Promise<string | null> {
  const error = await sendTest()
  if (error === null) return null
  switch (error.code) {
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'ENODEV':
    case 'EADDRNOTAVAIL':
      return (
        `this device has no route for multicast (${error.code}), so peers on the network cannot be found; ` +
        `try 'ip route add 224.0.0.0/4 dev ${firstInterface()}', or name a peer with --peer MULTIADDR`
      )
    case 'EPERM':
    case 'EACCES':
      return `a firewall blocks multicast (${error.code}): allow UDP port ${MDNS_PORT}, or name a peer with --peer MULTIADDR`
    default:
      return `multicast does not work here (${error.code ?? error.message}): name a peer with --peer MULTIADDR`
  }
}

function sendTest(): Promise<NodeJS.ErrnoException | null> {
  return new Promise(resolve => {
    const socket = createSocket('udp4')
    const finish = (error: NodeJS.ErrnoException | null) => {
      clearTimeout(timer)
      socket.close()
      resolve(error)
    }
    const timer = setTimeout(() => finish(null), SEND_TIMEOUT_MS)
    socket.once('error', finish)
    // An empty datagram: every mDNS responder drops it.
    socket.send(new Uint8Array(0), MDNS_PORT, MDNS_GROUP, finish)
  })
}

function firstInterface(): string {
  const found = Object.entries(networkInterfaces()).find(([, list]) =>
    list?.some(address => !address.internal)
  )
  return found?.[0] ?? 'lo'
}
