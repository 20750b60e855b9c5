import type { Multiaddr } from '@multiformats/multiaddr'
import { hasIpv6 } from './interfaces.ts'

export const ANY_IPV4 = '0.0.0.0'

/** All of IPv4, and of IPv6 where this device has an address that means something to another one. */
export function listenAddresses({ listen, port }: { listen: string; port: number }): string[] {
  const ipv4 = `/ip4/${listen}/tcp/${port}`
  return listen === ANY_IPV4 && hasIpv6() ? [ipv4, `/ip6/::/tcp/${port}`] : [ipv4]
}

/**
 * Loopback addresses lead nowhere on another host, so they are only told when there are no others; link-local ones of
 * IPv6 mean something only together with an interface, which has another name there.
 */
export function reachable(addresses: Multiaddr[]): Multiaddr[] {
  const universal = addresses.filter(address => !/^\/ip6zone\/|^\/ip6\/fe[89ab]/.test(address.toString()))
  const others = universal.filter(address => !/^\/ip4\/127\.|^\/ip6\/::1\//.test(address.toString()))
  return others.length > 0 ? others : universal
}

export function withoutPeerId(address: Multiaddr): string {
  return address.toString().replace(/\/p2p\/[^/]+$/, '')
}
