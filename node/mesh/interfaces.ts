import { networkInterfaces } from 'node:os'

/** IPv4 addresses of this host that others can reach; loopback when there is no network at all. */
export function localIpv4(): string[] {
  const addresses = Object.values(networkInterfaces())
    .flatMap(list => list ?? [])
    .filter(({ family, internal }) => family === 'IPv4' && !internal)
    .map(({ address }) => address)
  return addresses.length > 0 ? addresses : ['127.0.0.1']
}

/** Whether this host has an IPv6 address that others can dial: a global or a unique local one. */
export function hasIpv6(): boolean {
  return Object.values(networkInterfaces())
    .flatMap(list => list ?? [])
    .some(({ family, internal, address }) => family === 'IPv6' && !internal && !/^fe[89ab]/i.test(address))
}

/** Name of the interface with this address. */
export function interfaceName(address: string): string {
  const found = Object.entries(networkInterfaces()).find(([, list]) =>
    list?.some(entry => entry.address === address)
  )
  return found?.[0] ?? address
}
