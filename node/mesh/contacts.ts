import { isIPv4, isIPv6 } from 'node:net'
import { join } from 'node:path'
import { multiaddr } from '@multiformats/multiaddr'
import { z } from 'zod'
import { logger } from '../../models/log.ts'
import { isPeerId } from '../../protocols/peer-id.ts'
import { AddressError } from './errors.ts'
import { readIfThere, writePrivate } from './files.ts'

const log = logger('edgeshard:mesh')

const MAX_CONTACTS = 256
const MAX_ADDRESSES = 16

const file = z.record(z.string().max(128), z.array(z.string().max(256)).max(MAX_ADDRESSES))

/** Where members of the mesh were last reached: peer id to multiaddrs without it. */
export type Contacts = Map<string, string[]>

const contactsPath = (home: string) => join(home, 'peers.json')

/** Remembered peers; a damaged file only costs the memory, an odd entry itself. */
export async function readContacts(home: string): Promise<Contacts> {
  const bytes = await readIfThere(contactsPath(home))
  if (bytes === null) return new Map()
  try {
    const entries = Object.entries(file.parse(JSON.parse(bytes.toString('utf8'))))
    return new Map(entries.filter(([peerId]) => isPeerId(peerId)))
  } catch (error) {
    log.passOver('the file of remembered peers is damaged; they are found anew')(error)
    return new Map()
  }
}

export async function writeContacts(home: string, contacts: Contacts): Promise<void> {
  const kept = [...contacts].slice(-MAX_CONTACTS).map(([id, list]) => [id, list.slice(0, MAX_ADDRESSES)])
  await writePrivate(contactsPath(home), Buffer.from(JSON.stringify(Object.fromEntries(kept))))
}

/**
 * Splits an address into a multiaddr and the peer id it ends in, if it does. People may give `HOST:PORT`, too, IPv6 in
 * brackets.
 *
 * @throws {AddressError}
 */
export function splitAddress(text: string): { address: string; peerId: string | undefined } {
  try {
    const parsed = multiaddr(ofHostAndPort(text) ?? text)
    const components = parsed.getComponents()
    // The library reads nothing as an address of no parts.
    if (components.length === 0) throw new Error('it is empty')
    const peerId = components.findLast(({ name }) => name === 'p2p')?.value
    return { address: parsed.decapsulateCode(P2P_CODE).toString(), peerId }
  } catch (error) {
    throw new AddressError(
      `'${text.slice(0, 200)}' is no address such as 192.168.1.20:7446 or /ip4/192.168.1.20/tcp/7446`,
      { cause: error }
    )
  }
}

/** The multiaddr that `HOST:PORT` means; undefined for what is none, a name as well as an IP. */
function ofHostAndPort(text: string): string | undefined {
  const [, bracketed, plain, port] = HOST_AND_PORT.exec(text.trim()) ?? []
  if (port === undefined || Number(port) > 65_535) return undefined
  if (bracketed !== undefined) return isIPv6(bracketed) ? `/ip6/${bracketed}/tcp/${port}` : undefined
  return `/${isIPv4(plain!) ? 'ip4' : 'dns'}/${plain}/tcp/${port}`
}

/** A multiaddr of a TCP port as people read it: `HOST:PORT`; anything else as it is. */
export function hostAndPort(address: string): string {
  const [, kind, host, port] = /^\/(ip4|ip6|dns)\/([^/]+)\/tcp\/(\d+)$/.exec(address) ?? []
  if (kind === undefined) return address
  return kind === 'ip6' ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * Whether nodes listen at such an address: an IP and a TCP port, nothing before or behind. All else that strangers and
 * members tell is dropped: one entry that cannot be read would spoil the dial of the others.
 */
export function isListenAddress(text: string): boolean {
  if (!LISTEN_ADDRESS.test(text)) return false
  try {
    multiaddr(text)
    return true
  } catch {
    return false
  }
}

const P2P_CODE = 0x01a5
const HOST_AND_PORT = /^(?:\[([\da-f:.]+)\]|([a-z\d](?:[a-z\d.-]*[a-z\d])?)):(\d{1,5})$/i
const LISTEN_ADDRESS = /^\/ip[46]\/[\da-fA-F.:]{2,45}\/tcp\/\d{1,5}$/
