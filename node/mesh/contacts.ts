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

/** Splits a multiaddr into the address and the peer id it ends in, if it does. */
export function splitAddress(text: string): { address: string; peerId: string | undefined } {
  try {
    const parsed = multiaddr(text)
    const peerId = parsed.getComponents().findLast(({ name }) => name === 'p2p')?.value
    return { address: parsed.decapsulateCode(P2P_CODE).toString(), peerId }
  } catch (error) {
    throw new AddressError(`'${text.slice(0, 200)}' is not a multiaddr such as /ip4/192.168.1.20/tcp/7446`, {
      cause: error
    })
  }
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
const LISTEN_ADDRESS = /^\/ip[46]\/[\da-fA-F.:]{2,45}\/tcp\/\d{1,5}$/
