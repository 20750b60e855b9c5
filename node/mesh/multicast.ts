import { createSocket } from 'node:dgram'
import { interfaceName, localIpv4 } from './interfaces.ts'

const MDNS_GROUP = '224.0.0.251'
const MDNS_PORT = 5353
const SEND_TIMEOUT_MS = 1000

/** Whether multicast can be sent on one of this host's interfaces. */
export interface MulticastCheck {
  address: string
  interface: string
  /** The system's error code, null where sending works. */
  error: string | null
}

/** Sends an empty datagram, which every mDNS responder drops, to the group on every interface. */
export function checkMulticast(): Promise<MulticastCheck[]> {
  return Promise.all(
    localIpv4().map(async address => ({
      address,
      interface: interfaceName(address),
      error: await sendTest(address)
    }))
  )
}

/** Why no peer can be found by multicast and what to do: a line for each interface on which it does not work. */
export async function multicastProblems(): Promise<string[]> {
  const checks = await checkMulticast()
  return checks.filter(({ error }) => error !== null).map(multicastHint)
}

/** One line that says what a failed check means and what to do. */
export function multicastHint({ interface: name, error }: MulticastCheck): string {
  switch (error) {
    case 'ENETUNREACH':
    case 'EHOSTUNREACH':
    case 'ENODEV':
    case 'EADDRNOTAVAIL':
      return (
        `${name} has no route for multicast (${error}), so peers there cannot be found; ` +
        `try 'ip route add 224.0.0.0/4 dev ${name}', or name a peer with --peer MULTIADDR`
      )
    case 'EPERM':
    case 'EACCES':
      return `a firewall blocks multicast on ${name} (${error}): allow UDP port ${MDNS_PORT}, or name a peer with --peer MULTIADDR`
    default:
      return `multicast does not work on ${name} (${error}): name a peer with --peer MULTIADDR`
  }
}

function sendTest(address: string): Promise<string | null> {
  return new Promise(resolve => {
    const socket = createSocket('udp4')
    const finish = (error: NodeJS.ErrnoException | null) => {
      clearTimeout(timer)
      socket.close()
      resolve(error === null ? null : (error.code ?? error.message))
    }
    const timer = setTimeout(() => finish(null), SEND_TIMEOUT_MS)
    socket.once('error', finish)
    socket.bind(0, () => {
      try {
        socket.setMulticastInterface(address)
        socket.send(new Uint8Array(0), MDNS_PORT, MDNS_GROUP, finish)
      } catch (error) {
        finish(error as NodeJS.ErrnoException)
      }
    })
  })
}
